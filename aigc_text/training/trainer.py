"""The only training loop.

It knows no tokenizer, reads no files but its checkpoints and draws nothing: it takes a module, batches, an
`Objective` and an `evaluate(model)` callable, and reports `Progress`. Everything that a family does differently
(several optimizers, schedules of its own, roll-backs) is in its `Objective`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aigc_text import distributed
from aigc_text.errors import OptionError, TrainingError
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Progress
from aigc_text.utils import atomic, isolation, sealed_dir
from aigc_text.utils.torch_compat import forget_compiled

from . import checkpoint_folders, checkpoint_state, hardware, interrupts, optimizers, patience
from .objective import Objective, Verdict
from .step import Updates, seed
from .stream import BatchStream

Evaluate = Callable[[nn.Module], Mapping[str, float]]

LESS_VALIDATION = "Validate on shorter texts, or on nothing with --validation-split 0; with another --output."


def train(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Any],
    options: TrainingOptions,
    *,
    evaluate: Evaluate | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
) -> Generator[Progress, None, None]:
    """Trains `model` in place and yields a report after each update.

    Where memory runs out in an update, its batch is computed in halves, which changes nothing but rounding. Within
    `interrupts.postponed` a signal ends the run after the update under way, and its state is saved. So it is when the
    iterator is closed, and when Python exits while it is open.

    Between reports, and however the run ends, the model is in evaluation mode and the random states are the caller's.

    Args:
        model: any module; it is called as the objective sees fit.
        objective: what is minimised, with its parameter groups and optimizers.
        batches: micro-batches (tensors in a mapping or sequence, rows first), begun anew when they run out.
            If it has `from_step(n)`, that gives the batches from the n-th on; else a resumed run skips n of them.
        options: steps, rates, precision, seed.
        evaluate: figures of the model, called in evaluation mode every `options.eval_every` updates and at the end.
        checkpoints: folder for `step-N` checkpoints; none are written without it, and then early stopping cannot
            give the best weights back.
        resume: go on from the newest whole checkpoint if there is one.

    Raises:
        OptionError: options of a group that the objective does not have; early stopping, `deliver` best or a plateau
            schedule without `evaluate`; a `best` that it does not give; fewer rows in a batch than processes.
        TrainingError: a loss or gradient that is not finite (nothing was updated), or no batches; another process
            has gone, or was started with something else; there is no memory for a row, or no room for a checkpoint;
            there are checkpoints, and none of them is whole.
        KeyboardInterrupt, interrupts.Terminated: it was interrupted, and the state is saved.
        DamagedError: the best checkpoint, whose weights were asked for, is not whole any more.
    """
    reports = _reports(model, objective, batches, options.completed(), evaluate, checkpoints, resume)
    return isolation.closed_at_exit(isolation.own_randomness(reports))


def _reports(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Any],
    options: TrainingOptions,
    evaluate: Evaluate | None,
    checkpoints: Path | None,
    resume: bool,
) -> Iterator[Progress]:
    try:
        with distributed.company():
            run = _Run(model, objective, batches, options, evaluate, checkpoints)
            try:
                yield from run.start(resume)
                with interrupts.held(), closing(run.steps()) as steps:
                    for progress in steps:
                        run.model.eval()
                        yield progress
                        run.model.train()
                run.finish()
            finally:
                run.leave()
    finally:
        model.eval()


@dataclass
class _State(patience.Patience):
    """What the loop itself must remember; plain values, saved as JSON."""

    due: dict[str, float] | None = None  # the last update's figures, if its validation was interrupted


class _Run:
    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        batches: Iterable[Any],
        options: TrainingOptions,
        evaluate: Evaluate | None,
        checkpoints: Path | None,
    ) -> None:
        self.options, self.objective, self.batches = options, objective, batches
        self.evaluate, self.folder = evaluate, checkpoints
        self.accelerator = hardware.accelerator(options, groups=len(objective.groups(model)))
        self.state, self.saved, self.tokens = _State(), -1, 0
        if evaluate is None and (options.delivers_best or options.schedule == "plateau"):
            delivers = "early_stopping" if options.early_stopping else "deliver=best"
            what = delivers if options.delivers_best else "schedule=plateau"
            cure = "Give a file with --validation" + (", or --deliver last." if what == "deliver=best" else ".")
            raise OptionError(f"{what} needs a validation, and none is given", cure)
        names = list(objective.groups(model))
        options.check_groups(names)
        of_group = {name: options.for_group(name) for name in names}
        built = objective.optimizers(model, options)
        self.groups = list(built)
        distributed.agree(options=options, model={n: list(p.shape) for n, p in model.named_parameters()})
        self.before = hardware.outline(model) if self.accelerator.is_fsdp2 else None
        if options.compile:
            model.compile()
        # Together, since FSDP divides the parameters and gives the optimizers their parts.
        flat = [o for g in self.groups for o in built[g]]
        self.model, *prepared = self.accelerator.prepare(model, *flat)
        left = iter(prepared)
        self.optimizers = {g: [next(left) for _ in built[g]] for g in self.groups}
        for o in prepared:
            for h in o.param_groups:
                h["initial_lr"] = h["lr"]
        self.updates = Updates(self.accelerator, self.model, objective, options, of_group, self.optimizers)

    def start(self, resume: bool) -> Iterator[Progress]:
        found, messages = self._find(resume) if distributed.is_main() else (None, [])
        found, messages = distributed.from_main((found, messages))
        if found is not None:
            self._load(found)
            messages.append(f"resumed from step {self.state.step}")
        for message in messages:
            yield self._progress({}, message)

    def _find(self, resume: bool) -> tuple[Path | None, list[str]]:
        """The checkpoint to go on from, if any, and what there is to say about it."""
        messages: list[str] = []
        if self.folder is None:
            return None, messages
        checkpoint_folders.sweep(self.folder)
        found = checkpoint_folders.latest(self.folder, messages.append) if resume else None
        if resume and found is None and checkpoint_folders.steps(self.folder):
            raise TrainingError(
                f"no checkpoint in {self.folder} is whole: {messages[-1].split(';')[0]}",
                "Train again into another folder with --output.",
            )
        return found, messages

    def steps(self) -> Generator[Progress, None, None]:
        self.model.train()
        if self.options.eval_on_start and self.evaluate is not None and self.state.step == 0 > self.state.best_step:
            logs, message, _ = self._validate({})
            self._save()  # it may turn out to be the best
            yield self._progress(logs, message)
        stream = BatchStream(self.batches, self.state.step * self.options.gradient_accumulation_steps)
        while (self.state.step < self.options.max_steps and not self.state.stopped) or self.state.due is not None:
            logs, stream.tokens = self.state.due or {}, 0
            if self.state.due is None:
                with hardware.memory(self._sizes(), self.updates.smaller):
                    given = [next(stream) for _ in range(self.options.gradient_accumulation_steps)]
                    logs = self.updates.make(given, self.state, stream.place)
                self.state.step += 1
            self.tokens = stream.tokens
            yield from self._finished(logs)
        if self.options.delivers_best and self._take_back_best():
            yield self._progress({}, f"the weights are those of step {self.state.best_step}, the best")

    def finish(self) -> None:
        """Leaves the module as the run's result, in one piece."""
        optimizers.settle(self._averages())
        bare = self._bare()
        forget_compiled(bare)
        if self.before is not None:
            hardware.reunite(bare, self.before)

    def leave(self) -> None:
        """Takes back what only training needs, however the run ends."""
        bare = self._bare()
        forget_compiled(bare)
        bare.eval()
        bare.zero_grad(set_to_none=True)

    def _finished(self, logs: dict[str, float]) -> Iterator[Progress]:
        """What follows an update: its validation, the report, a checkpoint; and the end where one was asked for."""
        message, best = "", False
        last = self.state.step == self.options.max_steps
        if self.evaluate is not None and (last or self.state.step % self.options.eval_every == 0):
            logs, message, best = self._interruptible_validation(logs)
        notes, self.updates.notes = self.updates.notes, []
        try:
            # Reported before it is saved: a run killed in between reports the step once more, never not at all.
            yield self._progress(logs, "; ".join(filter(None, [*notes, message])))
        except GeneratorExit:
            self._save()
            raise
        # Saved after the verdict was followed: a resumed run must not follow it again, nor miss it.
        ends = last or self.updates.stopping or self.state.stopped
        if ends or best or self.state.step % self.options.save_every == 0:
            self._save()
        if self.updates.stopping:
            raise interrupts.error_of(interrupts.asked())

    def _interruptible_validation(self, logs: dict[str, float]) -> tuple[dict[str, float], str, bool]:
        """The validation; where it is interrupted it is due when the run goes on, and the update is not lost."""
        try:
            found = self._validate(logs)
        except (KeyboardInterrupt, interrupts.Terminated):
            self.model.train()
            self.state.due = logs
            self._save()
            raise
        if self.state.due is not None:
            self.state.due, self.saved = None, -1  # the checkpoint of this step was saved without its verdict
        return found

    # Validation and what follows from it

    def _validate(self, logs: dict[str, float]) -> tuple[dict[str, float], str, bool]:
        """The logs with `eval_…` figures, what followed from them in words, and whether they are the best so far."""
        found = {k if k.startswith("eval_") else f"eval_{k}": float(v) for k, v in self._measured().items()}
        logs = {**logs, **distributed.from_main(found)}  # all must follow the same verdict
        found_best = patience.criterion(self.options, logs)
        best = found_best < self.state.best
        if best:
            self.state.best, self.state.best_step = found_best, self.state.step
        followed = [
            self._follow(self.objective.after_eval(logs)),
            self._follow(patience.verdict(self.options, self.state, best)),
        ]
        for _, figures in followed:
            logs.update(figures)
        return logs, "; ".join(message for message, _ in followed if message), best

    def _measured(self) -> Mapping[str, float]:
        """The validation's figures. It alone is left where a signal comes: what is around it changes the state."""
        assert self.evaluate is not None
        autocast = hardware.autocast(self.accelerator.device, self.options)
        # Of several processes all must save together, and the others may be anywhere in it.
        leave = interrupts.at_once() if distributed.world() == 1 else nullcontext()
        self.model.eval()
        with torch.no_grad(), autocast, optimizers.averaged(self._averages()):
            with leave, hardware.memory(f"in the validation of step {self.state.step}", lambda: LESS_VALIDATION):
                figures = self.evaluate(self._bare())
            checkpoint_state.divide(self._bare())
        self.model.train()
        return figures

    def _take_back_best(self) -> bool:
        """Loads the best checkpoint, where the last weights are not the best; the step count stays."""
        if self.folder is None or not 0 <= self.state.best_step < self.state.step:
            return False
        now, best = self.state, self.folder / f"step-{self.state.best_step}"
        if distributed.is_main():
            sealed_dir.verify(best)
        self._load(best)
        self.state = now
        return True

    def _follow(self, verdict: Verdict) -> tuple[str, dict[str, float]]:
        """Does what a verdict asks for; gives what was done, in words, and the figures to log of it."""
        messages, figures = [], {f"eval_{name}": float(value) for name, value in verdict.logs.items()}
        if verdict.roll_back and self._take_back_best():
            messages.append(f"rolled back to step {self.state.best_step}")
            figures["rolled_back_to"] = float(self.state.best_step)
        if verdict.scale_rate != 1.0:
            self.state.scale *= verdict.scale_rate
            messages.append(f"learning rate times {verdict.scale_rate:g}")
        for group in verdict.reset:
            self._reset(group)
            messages.append(f"{group} reset")
        if verdict.note:
            messages.append(verdict.note)
        if verdict.stop:
            self.state.stopped = verdict.stop
            messages.append(f"stopped: {verdict.stop}")
        return "; ".join(messages), figures

    def _reset(self, group: str) -> None:
        seed(self.options, self.state.step, 0, self.accelerator.device)  # the same in all processes
        self.objective.reset(self.accelerator.unwrap_model(self.model), group)
        for o in self.optimizers[group]:
            o.state.clear()

    def _sizes(self) -> str:
        return f"with batch_size={self.options.batch_size} and block_size={self.options.block_size or 'its default'}"

    # Checkpoints

    def _save(self) -> None:
        if self.folder is None or self.saved == self.state.step:
            return
        self.saved = self.state.step
        if distributed.is_main():
            needed = checkpoint_state.size(self._bare(), self._all_optimizers())
            place = self.folder / f"step-{self.state.step}"
            with atomic.writing(place, needed):
                sealed_dir.save(place, self._write)
            best = self.folder / f"step-{self.state.best_step}"
            checkpoint_folders.prune(self.folder, self.options.keep_checkpoints, also=best)
        else:
            self._write(None)
        distributed.wait()

    def _write(self, folder: Path | None) -> None:
        checkpoint_state.write(folder, self._bare(), self._all_optimizers(), self.objective, asdict(self.state))

    def _load(self, folder: Path) -> None:
        mine = folder if distributed.is_main() else None
        self.state = checkpoint_state.read(mine, self._bare(), self._all_optimizers(), self.objective, _State)
        self.saved = self.state.step

    def _bare(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _averages(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [*optimizers.averages(self._all_optimizers()), *self.objective.averages()]

    def _all_optimizers(self) -> list[Any]:
        return [o for g in self.groups for o in self.optimizers[g]]

    def _progress(self, logs: Mapping[str, float], message: str) -> Progress:
        return Progress(
            step=self.state.step, total=self.options.max_steps, logs=dict(logs), message=message, tokens=self.tokens
        )
