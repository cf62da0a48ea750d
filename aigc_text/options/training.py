"""What training can be asked for. Light: the command line reads its options from here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from aigc_text.errors import OptionError, nearest

from .base import Options, option

Training = TypeVar("Training", bound="TrainingOptions")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """How to train. Everything that changes the result is here, and is saved with the run.

    A backend with options of its own derives a class from this one and names it as its `Training`. Options that
    depend on the family are `None` until `completed` gives them a value.
    """

    #: Values of the options that are `None` by default, where the family has none of its own.
    STANDARD: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-4, "batch_size": 8, "sample_by": "document"}

    # Length
    max_steps: int = option(1000, "Updates in all; the schedule ends there.", low=1)
    epochs: float | None = option(None, "Passes over the data, instead of max_steps.", above=0)
    batch_size: int = option(
        None, "Rows of one micro-batch, over all processes. Default: 8, and from scratch what suits the family.", low=1
    )
    gradient_accumulation_steps: int = option(1, "Micro-batches of one update.", low=1)

    # Data
    text_column: str = option("text", "The text's column in JSONL, CSV, Parquet and datasets.")
    prompt_column: str | None = option(None, "Column of prompts: the loss counts the completion only.")
    completion_column: str | None = option(None, "Column of completions, with prompt_column.")
    sample_by: str = option(
        None, "What one text of a plain file is. Default: document, and line with vae and gan.",
        choices=("document", "paragraph", "line"),
    )  # fmt: skip
    streaming: bool = option(False, "Read the data while training; for what does not fit in memory.")
    packing: bool | None = option(
        None, "Cut the joined texts into full rows; off, each text is a row, grouped by length. Default: the backend's."
    )
    block_size: int | None = option(None, "Tokens a row; by default the model's context, at most 512.", low=8)
    augment: tuple[str, ...] | None = option(
        None, "Vary the data anew in each pass: word_dropout=RATE, span_masking=RATE or fim=RATE; may be repeated."
    )
    validation_split: float = option(
        0.05, "Share of the texts (of one text: its end) held out where no validation file is given.", low=0, high=0.5
    )

    # Optimizer and learning rate
    learning_rate: float = option(
        None, "The highest learning rate. Default: 1e-4, and from scratch what suits the family.", above=0
    )
    optimizer: str = option(
        "adamw",
        "AdamW; Muon for the hidden matrices with AdamW for the rest; SGD; or SGD that averages its weights.",
        choices=("adamw", "muon", "sgd", "asgd"),
    )
    weight_decay: float = option(0.1, "Weight decay of matrices (decoupled with AdamW and Muon).", low=0)
    adam_beta2: float = option(0.99, "AdamW's decay of squared gradients.", low=0, high=1)
    momentum: float | None = option(None, "Momentum of SGD (default 0) and Muon (default 0.95).", low=0, high=1)
    average_from: int = option(1, "Update from which ASGD averages its weights.", low=1)
    schedule: str = option(
        "cosine", "The learning rate after the warm-up.", choices=("cosine", "linear", "constant", "plateau")
    )
    warmup_steps: int = option(20, "Updates over which the learning rate rises.", low=0)
    min_rate: float = option(0.0, "The learning rate's end, as a share of the highest.", low=0, high=1)
    plateau_factor: float = option(
        0.5, "Schedule plateau: multiplies the rate when the validation no longer improves.", above=0, high=1
    )
    plateau_patience: int = option(2, "Schedule plateau: validations without improvement before that.", low=1)
    max_grad_norm: float = option(1.0, "Clip each group's gradient to this norm; 0 turns it off.", low=0)
    group: tuple[str, ...] | None = option(
        None, "NAME.OPTION=VALUE: another optimizer or rate for one parameter group; may be repeated."
    )

    # LoRA
    lora_rank: int | None = option(
        None,
        "Train a LoRA adapter of this rank and leave the model as it is.",
        low=1,
        instead="To train without an adapter leave it out",
    )
    lora_alpha: float | None = option(
        None, "Scale of the adapter is alpha / rank; by default alpha is 2 rank.", above=0
    )
    lora_dropout: float = option(0.0, "Dropout before the adapter.", low=0, high=0.9)
    lora_targets: tuple[str, ...] | None = option(
        None, "Layers that get an adapter, by the end of their name; by default all linear ones."
    )

    # Hardware
    precision: str = option(
        "auto", "auto is bf16 where the hardware computes in it, else fp32.", choices=("auto", "bf16", "fp32")
    )
    compile: bool = option(False, "Compile the model with torch.compile (needs a C++ compiler on the CPU).")

    # Looking and saving
    eval_every: int = option(200, "Updates between validations.", low=1)
    eval_on_start: bool = option(False, "Validate before the first update too.")
    eval_blocks: int = option(
        200, "Most texts, pairs or windows of the validation data to score; of packed texts, as many as fill this many "
        "blocks.", low=1,
    )  # fmt: skip
    early_stopping: int | None = option(
        None,
        "Stop after this many validations without improvement, and keep the best weights.",
        low=1,
        instead="To train to the end leave it out",
    )
    best: str = option(
        "loss",
        "The validation's figure that tells the best checkpoint, which is kept: its lowest, or with max: before its "
        "name its highest.",
    )
    deliver: str = option(
        "last", "Whose weights the run ends with; with early stopping always the best.", choices=("last", "best")
    )
    samples: int = option(0, "Texts to generate at each validation, written to samples.jsonl.", low=0)
    sample_prompts: tuple[str, ...] | None = option(None, "Prompts of these texts; may be repeated.")
    save_every: int = option(200, "Updates between checkpoints.", low=1)
    keep_checkpoints: int = option(2, "Newest checkpoints to keep, besides the best one.", low=1)
    seed: int = option(0, "Seed of the initial weights, the order of the data and dropout.", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.prompt_column is None) != (self.completion_column is None):
            raise OptionError(
                "prompt_column and completion_column go together",
                "Give both: --prompt-column question --completion-column answer",
            )
        for text in self.group or ():
            _split_group(text)

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults; a standard value asks for nothing."""
        return {name: value for name, value in super().given().items() if value != self.STANDARD.get(name)}

    def completed(self: Training, defaults: Mapping[str, Any] | None = None) -> Training:
        """The options with a value for each of those in `STANDARD`.

        Args:
            defaults: the family's values of any options, for those that were not set.
        """
        values = {**self.STANDARD, **(defaults or {})}
        return dataclasses.replace(self, **{n: v for n, v in values.items() if getattr(self, n) is None})

    @property
    def delivers_best(self) -> bool:
        return bool(self.early_stopping) or self.deliver == "best"

    def criterion(self) -> tuple[str, int]:
        """The figure behind `best` by its name in the logs, and what it is multiplied by so that lower is better."""
        highest = self.best.startswith("max:")
        return "eval_" + self.best.removeprefix("max:").removeprefix("eval_"), -1 if highest else 1

    def for_group(self, name: str) -> TrainingOptions:
        """The options of one parameter group: these, with what `group` says about it on top."""
        found = [_split_group(text) for text in self.group or ()]
        own = {option: value for group, option, value in found if group == name}
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        result: TrainingOptions = type(self).parse({**plain, **own}) if own else self
        return result

    def check_groups(self, names: Sequence[str]) -> None:
        """Refuses options of a group that the objective does not have.

        Raises:
            OptionError: no such group.
        """
        for text in self.group or ():
            name = _split_group(text)[0]
            if name not in names:
                cure = f"Groups of this backend: {', '.join(names)}"
                raise OptionError(f"group {text!r}: there is no group {name!r}.{nearest(name, names)}", cure)


#: What may differ from one parameter group to another.
GROUP_OPTIONS = (
    "learning_rate",
    "optimizer",
    "weight_decay",
    "adam_beta2",
    "momentum",
    "average_from",
    "max_grad_norm",
)


def _split_group(text: str) -> tuple[str, str, str]:
    """`generator.learning_rate=1e-4` as (group, option, value)."""
    left, equals, value = text.partition("=")
    name, _, option = left.rpartition(".")
    if not (name and equals and value):
        raise OptionError(f"group {text!r} is not of the form NAME.OPTION=VALUE", "E.g. model.learning_rate=1e-4")
    option = option.replace("-", "_")
    if option not in GROUP_OPTIONS:
        cure = f"Allowed: {', '.join(GROUP_OPTIONS)}"
        raise OptionError(f"group {text!r}: {option!r} is no option of a group.{nearest(option, GROUP_OPTIONS)}", cure)
    return name, option, value
