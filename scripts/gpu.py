"""Measures everything that is to be known of a GPU, in at most eight minutes, and writes it down as it goes.

    python scripts/gpu.py --data input.txt --output runs/gpu          # input.txt is the file of tinyshakespeare
    python scripts/gpu.py --device cpu --tiny --data any.txt          # the same without a GPU, in seconds
    python scripts/gpu.py --only train --again

The sections, the most important first: `machine` (memory bandwidth, matrix products), `check` (the table of
check_gpu.py), `generate` (beside transformers' `generate`), `train` (beside its `Trainer`), `gan` and `vae` (beside
plain loops), `shakespeare` (scripts/recipes/transformer_shakespeare.yaml). They are in `gpu_sections.py`, the
definitions of what they measure in `gpu_common.py`.

After each section `gpu.json` and `gpu.md` are written into the output folder, whole or not at all, so a run that is
killed leaves what it has; run again, it measures what is missing for that device and size. A section that fails leaves
its reason there and the next one begins; then the exit code is 1. A section whose time is up leaves what it has so far.
"""

from __future__ import annotations

import argparse
import datetime
import faulthandler
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers

import aigc_text
from aigc_text import UserError
from aigc_text.utils import atomic

sys.path.append(str(Path(__file__).parent / "benchmarks"))
import check_gpu  # noqa: E402
import devices  # noqa: E402
from gpu_common import Clock, Failed, Given, OutOfTime, Skipped, free  # noqa: E402
from gpu_sections import SECTIONS, Section  # noqa: E402

BUDGET = 480
HANG = 60  # seconds beyond a section's time after which a stack trace says where it hangs


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    given = arguments(argv)
    if given.data is not None and not given.data.is_file():
        return refused(f"--data {given.data}: there is no such file; it wants tinyshakespeare's input.txt")
    check_gpu.require(given.device)
    results = Results(given.output, f"{devices.name_of(given.device)}, {'tiny' if given.tiny else 'full'}")
    try:
        results.read()
    except (OSError, ValueError) as error:
        cure = "move it away, or choose another --output"
        return refused(f"{results.json} is not what this script writes ({error}): {cure}")
    results.own["about"] = about(given.device)
    given.output.mkdir(parents=True, exist_ok=True)
    return measured(given, results, Clock(given.budget))


def refused(text: str) -> int:
    print(f"Error: {text}", file=sys.stderr)
    return 2


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="models and batches of a size for tests")
    parser.add_argument("--data", type=Path, help="tinyshakespeare, one file; without it `shakespeare` is skipped")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"), help="a folder (default: %(default)s)")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for all sections (default: %(default)s)")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="only this section; may be repeated")
    parser.add_argument("--again", action="store_true", help="measure what has been measured already, too")
    given = parser.parse_args(argv)
    given.command = shlex.join(["python", "scripts/gpu.py", *(sys.argv[1:] if argv is None else argv)])
    return given


class Results:
    """What was measured, by device and size, in `gpu.json` and `gpu.md` of a folder."""

    def __init__(self, folder: Path, key: str) -> None:
        self.json, self.markdown, self.key = folder / "gpu.json", folder / "gpu.md", key
        self.all: dict[str, Any] = {}

    def read(self) -> None:
        """Takes up what earlier runs have written.

        Raises:
            OSError, ValueError: the file cannot be read, or is something else.
        """
        found = json.loads(self.json.read_text(encoding="utf-8")) if self.json.exists() else {}
        if not isinstance(found, dict) or not all(isinstance(r, dict) and "sections" in r for r in found.values()):
            raise ValueError("not a JSON object of runs")
        self.all = found

    @property
    def own(self) -> dict[str, Any]:
        """Of this device and size."""
        made: dict[str, Any] = self.all.setdefault(self.key, {"sections": {}})
        return made

    @property
    def sections(self) -> dict[str, Any]:
        found: dict[str, Any] = self.own["sections"]
        return found

    def write(self) -> None:
        atomic.write_text(self.json, json.dumps(self.all, indent=1, ensure_ascii=False) + "\n")
        atomic.write_text(self.markdown, markdown(self.all))


def measured(given: argparse.Namespace, results: Results, budget: Clock) -> int:
    """Measures the sections that were asked for; the exit code."""
    names = [name for name in SECTIONS if not given.only or name in given.only]
    failed = False
    for n, name in enumerate(names):
        if results.sections.get(name, {}).get("status") == "done" and not given.again:
            say(f"{name}: measured before")
            continue
        section = SECTIONS[name]
        seconds = min(section.seconds, budget.left())
        if seconds < (0 if given.tiny else section.least):
            say(f"{name}: no time is left")
            results.sections.setdefault(name, {"status": "skipped", "message": "no time was left"})
            continue
        say(f"{name}: {section.title}, at most {seconds:.0f} s")
        how = Given(given.device, given.tiny, given.data, given.output, results.sections.get("machine", {}))
        record = run(section, how, seconds, given.command)
        results.sections[name] = record
        results.write()
        reason = f": {record['message']}" if record["message"] else ""
        say(f"{name}: {record['status']} after {record['seconds']:.0f} s{reason}")
        failed = failed or record["status"] == "failed"
        if record["status"] == "failed" and not device_works(given.device):
            say("the device answers no more in this process; the other sections go on in a new one")
            subprocess.run(restarted(given, names[n + 1 :], budget.left()), check=False)
            return 1
    results.write()
    say(f"{results.json} and {results.markdown} are written")
    return int(failed)


def run(section: Section, given: Given, seconds: float, command: str) -> dict[str, Any]:
    """Runs a section and returns its record, which holds the error if the section fails."""
    record: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")}
    record["command"] = command
    start, status, message = time.monotonic(), "done", ""
    faulthandler.dump_traceback_later(seconds + HANG, file=sys.__stderr__)
    try:
        section.measure(given, record, Clock(seconds))
    except OutOfTime:
        status, message = "cut short", "its time was up"
    except Skipped as reason:
        status, message = "skipped", str(reason)
    except Failed as reason:
        status, message = "failed", str(reason)
    except UserError as error:
        status, message = "failed", error.message
    except (Exception, SystemExit) as error:  # whatever it is, the other sections are measured
        status, message = "failed", f"{type(error).__name__}: {error}"
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        faulthandler.cancel_dump_traceback_later()
    attempt(free)
    return {**record, "status": status, "message": " ".join(message.split())[:500], "seconds": time.monotonic() - start}


def attempt(work: Callable[[], Any]) -> bool:
    """Whether it could be done at all; on a device that an error has left unusable, nothing can."""
    try:
        work()
    except RuntimeError as error:
        say(" ".join(str(error).split())[:200])
        return False
    return True


def device_works(device: str) -> bool:
    """Whether the device still computes: after an illegal access of memory, say, it does not in the same process."""
    return attempt(lambda: (torch.ones(1, device=device) + 1).item())


def restarted(given: argparse.Namespace, names: Sequence[str], seconds: float) -> list[str]:
    """The command that measures the sections that are left."""
    flags = ["--again"] * given.again + ["--tiny"] * given.tiny
    data = ["--data", str(given.data)] if given.data else []
    only = [word for name in names for word in ("--only", name)]
    where = ["--device", given.device, "--output", str(given.output), "--budget", f"{seconds:.0f}"]
    return [sys.executable, str(Path(__file__).resolve()), *where, *data, *flags, *only]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def about(device: str) -> dict[str, str]:
    """The machine and the versions."""
    packages = [f"{m.__name__} {m.__version__}" for m in (torch, transformers, accelerate)]
    versions = [f"Python {platform.python_version()}", f"aigc-text {aigc_text.__version__}", *packages]
    found = {"device": devices.name_of(device), "processor": devices.processor(), "versions": ", ".join(versions)}
    if device == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        found |= {"memory": f"{memory:.0f} GiB", "driver": devices.driver()}
    return found


def markdown(found: Mapping[str, Any]) -> str:
    """All that was measured, as tables under a heading for each device and size."""
    lines = ["# GPU measurements", ""]
    for key, one in found.items():
        lines += [f"## {key}", "", *(f"- {name}: {text}" for name, text in one.get("about", {}).items()), ""]
        for name, section in SECTIONS.items():
            record = one["sections"].get(name)
            if record is not None:
                lines += [f"### {section.title}", "", *shown(section, record), ""]
    return "\n".join(lines).rstrip() + "\n"


def shown(section: Section, record: Mapping[str, Any]) -> list[str]:
    status = record["status"] + (f": {record['message']}" if record["message"] else "")
    if "seconds" not in record:
        return [f"{status.capitalize()}."]
    head = f"`{record['command']}`, {record['date']}, {record['seconds']:.0f} s"
    table = section.table(record)
    return [f"{head}: {status}.", *([""] if table else []), *table]


if __name__ == "__main__":
    sys.exit(main())
