"""pass@k: how many problems a model solves when it may try k times; and how much of what it writes is Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aigc_text.code_eval.sandbox.cases import Limits
from aigc_text.code_eval.sandbox.runner import check_support, run_all
from aigc_text.errors import MetricError
from aigc_text.metrics.base import TextMetric
from aigc_text.metrics.ngrams import Floats

from .problems import Problem, parses

if TYPE_CHECKING:
    from aigc_text.code_eval.sandbox.cases import Verdict

RISK = "Say run_untrusted_code (--run-untrusted-code) if you accept it."


class Syntax(TextMetric):
    """The share of texts that are Python of the version that runs this. Nothing of them is executed.

    >>> from aigc_text.code_eval.pass_at_k import Syntax
    >>> Syntax().compute(predictions=["x = 1", "x = = 1"])
    {'syntax': 0.5}
    """

    def scores(self, predictions: Iterable[str]) -> dict[str, Floats]:
        """`syntax` to an array (P,): 1 for each text that parses, 0 for the others."""
        texts, _ = self._checked(predictions)
        return {"syntax": np.array([parses(text) for text in texts], float)}


class PassAtK(TextMetric):
    """The chance that of k completions of a problem at least one passes its tests (Chen et al. 2021, equation 1).

    Of n completions c pass; the estimate 1 - C(n-c, k) / C(n, k) is unbiased, which 1 - (1 - c/n)^k is not. The figure
    is the mean over problems. Completions run in a sandbox, see `aigc_text.code_eval.sandbox.runner`.

    >>> from aigc_text.code_eval.pass_at_k import PassAtK
    >>> from aigc_text.code_eval.problems import Problem
    >>> one = Problem(task_id="one", prompt="def f():\\n", tests="assert f() == 1", names=("f",))
    >>> texts = ["    return 1", "    return 2"]
    >>> PassAtK().compute(predictions=texts, problems=[one, one], k=(1, 2), run_untrusted_code=True)
    {'pass@1': 0.5, 'pass@2': 1.0}
    """

    citation = """\
@article{chen2021evaluating,
    title = "Evaluating Large Language Models Trained on Code",
    author = "Chen, Mark and Tworek, Jerry and Jun, Heewoo and Yuan, Qiming and others",
    journal = "arXiv preprint arXiv:2107.03374",
    year = "2021",
}"""

    def _compute(
        self,
        predictions: list[str],
        problems: Sequence[Problem],
        k: Sequence[int] = (1,),
        limits: Limits | None = None,
        workers: int = 1,
        run_untrusted_code: bool = False,
    ) -> dict[str, float]:
        """Runs each completion.

        Args:
            predictions: P completions.
            problems: of each its problem.
            k: numbers of tries.
            limits: of one program.
            workers: programs at once.
            run_untrusted_code: says that generated code may be run.

        Raises:
            MetricError: it may not; the lengths differ; a problem has fewer completions than `k`.
            OptionError: this machine cannot lock programs in.
        """
        if not run_untrusted_code:
            raise MetricError("pass@k runs code that a model wrote", RISK)
        if len(predictions) != len(problems):
            raise MetricError(f"{len(predictions)} completions of {len(problems)} problems", "Give one for each.")
        check_support()
        cases = (problem.case(text) for problem, text in zip(problems, predictions, strict=True))
        return pass_at([p.task_id for p in problems], list(run_all(cases, limits, workers=workers)), k)


def pass_at(tasks: Sequence[str], verdicts: Sequence[Verdict], k: Sequence[int]) -> dict[str, float]:
    """`pass@k` for each k: the mean over tasks.

    Raises:
        MetricError: a task has fewer verdicts than k.
    """
    return {f"pass@{n}": float(each.mean()) for n, each in estimates(tasks, verdicts, k).items()}


def estimates(tasks: Sequence[str], verdicts: Sequence[Verdict], k: Sequence[int]) -> dict[int, Floats]:
    """For each k the estimates of the tasks (T,), in the order in which they first come."""
    passed: dict[str, list[bool]] = {}
    for task, verdict in zip(tasks, verdicts, strict=True):
        passed.setdefault(task, []).append(verdict.passed)
    for task, each in passed.items():
        if len(each) < max(k):
            raise MetricError(f"pass@{max(k)} of {task!r} with {len(each)} completions", "Make more of them: -n.")
    return {n: np.array([estimate(len(each), sum(each), n) for each in passed.values()]) for n in k}


def estimate(n: int, c: int, k: int) -> float:
    """1 - C(n-c, k) / C(n, k), as a product that does not overflow (Chen et al. 2021, figure 3)."""
    if n - c < k:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))
