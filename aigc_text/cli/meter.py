"""What commands say while they work: the figures of a run, the speed, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from aigc_text.outputs import Progress
from aigc_text.plots.panels import RATE, told

SILENCE = 30.0  # seconds between two lines, at most


class Meter:
    """Measures a run by its reports.

    Args:
        clock: gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.first: tuple[float, int] | None = None  # time and step of the first report
        self.now = self.spoke = clock()
        self.longest_wait = 0.0  # for a report since the last line
        self.busy, self.tokens, self.left = 0.0, 0, 0.0  # seconds and tokens of updates; seconds to the end

    def count(self, progress: Progress) -> None:
        """Takes a report; call it once for each."""
        before, self.now = self.now, self.clock()
        self.longest_wait = max(self.longest_wait, self.now - before)
        if self.first is None:  # what was before it is preparation
            self.first = self.now, progress.step
            return
        if progress.tokens and not _validated(progress):
            self.busy, self.tokens = self.busy + self.now - before, self.tokens + progress.tokens
        began, step = self.first
        if progress.step > step:
            self.left = (self.now - began) / (progress.step - step) * (progress.total - progress.step)

    def due(self) -> bool:
        """Whether a line is due now, because the silence would be too long by the next report."""
        return self.now + self.longest_wait - self.spoke > SILENCE

    def line(self, progress: Progress) -> str:
        """The figures of a report, the speed so far, and the time left; the next line is due after `SILENCE`."""
        self.spoke, self.longest_wait = self.now, 0.0
        parts = [told(progress.logs), rates(progress.logs), self.speed()]
        parts.append(f"{duration(self.left)} left" if self.left else "")
        return "  ".join(filter(None, parts))

    def speed(self) -> str:
        """Tokens a second of the updates, without the validations between them."""
        return f"{self.tokens / self.busy:,.0f} tokens/s" if self.busy else ""


class Speed:
    """Texts a second and the time left, from what this process has made itself: not from what it found finished.

    Args:
        first: texts that were there before.
        total: texts that there will be.
    """

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total, self.start = first, total, time.monotonic()
        self.every = 1.0 if sys.stderr.isatty() else 60.0  # elsewhere each word about it is a line of its own
        self.due = self.start + self.every

    def is_due(self) -> bool:
        """Whether the words are to be shown again."""
        late = time.monotonic() >= self.due
        if late:
            self.due = time.monotonic() + self.every
        return late

    def words(self, done: int) -> str:
        """How far it is, how fast, and the time left."""
        rate = (done - self.first) / max(time.monotonic() - self.start, 1e-6)
        left = int((self.total - done) / max(rate, 1e-9))
        return f"{done} of {self.total}, {rate:.1f} texts/s, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


def _validated(progress: Progress) -> bool:
    return any(name.startswith("eval_") for name in progress.logs)


def rates(logs: Mapping[str, float]) -> str:
    """The learning rates, each value once."""
    found = dict.fromkeys(f"{v:.3g}" for name, v in logs.items() if name.endswith(RATE))
    return f"learning rate {', '.join(found)}" if found else ""


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
