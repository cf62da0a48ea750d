"""How many programming problems a model solves: completions, verdicts from the sandbox, and what they come to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text.code_eval.sandbox.cases import OUTCOMES, Limits, Verdict
from aigc_text.code_eval.sandbox.runner import check_support, run_all
from aigc_text.data.readers import read_records
from aigc_text.data.tables import text_of
from aigc_text.errors import DataError, OptionError, nearest
from aigc_text.generation.detokenizer import FUNCTION_END

from .problems import PROGRAM_END, Problem, parses, task_of

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.options.generation import GenerationOptions

OWN_SOLUTIONS = "solutions"  # instead of a file of completions: those that the problems bring along


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A completion of a problem.

    Attributes:
        task_id: the problem's.
        index: which of its completions, from 0.
        completion: what follows the prompt.
        syntax: whether prompt and completion together are Python.
        verdict: what became of it, or `None` if it was not run.
    """

    task_id: str
    index: int
    completion: str
    syntax: bool
    verdict: Verdict | None = None

    def record(self) -> dict[str, Any]:
        """As a line of the output: `completion` as HumanEval's own harness reads it."""
        found: dict[str, Any] = {"task_id": self.task_id, "index": self.index, "completion": self.completion}
        found["syntax"] = self.syntax
        if self.verdict is not None:
            v = self.verdict
            found.update(passed=v.passed, outcome=v.outcome, why=v.why, seconds=round(v.seconds, 3))
        return found


def generated(
    backend: Backend, problems: Sequence[Problem], options: GenerationOptions, **sizes: int
) -> Iterator[tuple[int, int, str]]:
    """Yields (place of the problem, index, completion); each ends where the function, or the program, ends.

    Args:
        backend: who writes.
        problems: in the order of the file.
        options: how; stop strings given there are used instead.
        sizes: `batch_size` and `batch_tokens`.
    """
    if options.stop_strings is None:
        ends = PROGRAM_END if all(p.whole for p in problems) else FUNCTION_END
        options = backend.resolve(options, {"stop_strings": ends})
    wanted = backend.generate_some([p.prompt for p in problems], options, lambda *_: True, **sizes)
    yield from ((c.prompt_index, c.index, c.text) for c in wanted)


def read_completions(path: str, problems: Sequence[Problem]) -> Iterator[tuple[int, int, str]]:
    """Yields the same from a JSONL file of `task_id` and `completion`, or `solutions`: the problems' own.

    Raises:
        DataError: a field is missing or of another type, or there is no such problem, with the place (`file:line`).
    """
    if path == OWN_SOLUTIONS:
        if missing := [p.task_id for p in problems if p.solution is None]:
            raise DataError(f"the problem {missing[0]!r} brings no solution", "Give a file with --samples.")
        yield from ((place, 0, p.solution or "") for place, p in enumerate(problems))
        return
    places = {p.task_id: place for place, p in enumerate(problems)}
    seen: Counter[str] = Counter()
    for where, record in read_records(Path(path)):
        for name in ("task_id", "completion"):
            if name not in record:
                what = f"{where} has no field {name!r}.{nearest(name, record)}"
                raise DataError(what, 'Write {"task_id": "…", "completion": "…"}.')
        task, text = task_of(where, record), text_of(where, record, "completion")
        if task not in places:
            raise DataError(f"{where}: there is no problem {task!r}.{nearest(task, places)}", "See the problems.")
        yield places[task], seen[task], text
        seen[task] += 1


def attempts(
    problems: Sequence[Problem],
    completions: Iterable[tuple[int, int, str]],
    limits: Limits | None,
    *,
    confined: bool = True,
    workers: int = 1,
) -> Generator[Attempt, None, None]:
    """Yields each completion with its verdict, in the order given.

    Args:
        problems: that `completions` name by their places.
        completions: (place, index, text).
        limits: of a program; `None`: nothing is run.
        confined: lock programs in.
        workers: programs at once.

    Raises:
        OptionError: this machine cannot lock programs in.
    """
    listed = list(completions)
    verdicts: Iterator[Verdict | None] = iter([None] * len(listed))
    if limits is not None:
        if confined:
            check_support()
        cases = (problems[place].case(text) for place, _, text in listed)
        verdicts = iter(run_all(cases, limits, confined=confined, workers=workers))
    for (place, index, text), verdict in zip(listed, verdicts, strict=True):
        problem = problems[place]
        yield Attempt(
            task_id=problem.task_id,
            index=index,
            completion=text,
            syntax=parses(problem.prompt + text),
            verdict=verdict,
        )


def summary(found: Sequence[Attempt], ks: Sequence[int]) -> dict[str, Any]:
    """What attempts come to: `problems`, `completions`, `syntax`, and of those that ran `pass@k` and `outcomes`.

    Each `pass@k` is [estimate, its standard error over problems].
    """
    tasks = [a.task_id for a in found]
    result: dict[str, Any] = {
        "problems": len(set(tasks)),
        "completions": len(found),
        "syntax": sum(a.syntax for a in found) / len(found),
    }
    verdicts = [a.verdict for a in found if a.verdict is not None]
    if verdicts:
        from .pass_at_k import estimates

        for k, each in estimates(tasks, verdicts, ks).items():
            error = float(each.std(ddof=1)) / len(each) ** 0.5 if len(each) > 1 else 0.0
            result[f"pass@{k}"] = [float(each.mean()), error]
        counts = Counter(v.outcome for v in verdicts)
        result["outcomes"] = {o: counts[o] for o in OUTCOMES if counts[o]}
    return result


def table(result: Mapping[str, Any]) -> str:
    """The same for a reader."""
    lines = [
        f"{result['completions']} completions of {result['problems']} problems",
        f"syntax   {result['syntax']:.3f}  of the programs are Python",
    ]
    for name, value in result.items():
        if name.startswith("pass@"):
            lines.append(f"{name:8} {value[0]:.3f}  ± {value[1]:.3f} (standard error over problems)")
    if "outcomes" in result:
        lines.append(", ".join(f"{outcome} {count}" for outcome, count in result["outcomes"].items()))
    else:
        lines.append("nothing was run")
    return "\n".join(lines) + "\n"


def parse_ks(text: str, n: int) -> tuple[int, ...]:
    """`1,10` as numbers of tries, at most n.

    Raises:
        OptionError: something else.
    """
    try:
        ks = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise OptionError(f"k {text!r} is not a number, nor several with commas", "E.g. --k 1,10") from None
    if min(ks) < 1 or max(ks) > n:
        raise OptionError(f"k {text!r} with {n} completions a problem", f"Allowed: 1 to {n}; make more with -n.")
    return ks


def line_of(attempt: Attempt) -> str:
    """A line of JSONL."""
    return json.dumps(attempt.record(), ensure_ascii=False) + "\n"
