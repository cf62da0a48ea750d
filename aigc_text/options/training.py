"""What can be asked for. Light: the command line reads its options from here."""

from __future__ import annotations

import dataclasses
import functools
import math
import secrets
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from aigc_text.errors import OptionError, nearest, shell

from . import contradictions

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
WHOLE = 2**63  # whole numbers from here on fit in no register


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Sequence[str] = (),
    instead: str = "",
) -> Any:
    """A field with its documentation and its range.

    Args:
        default: of the field.
        help: for the command line.
        low, high: the first and the last allowed value.
        above: the values begin above this one.
        choices: of texts, those that are allowed.
        instead: for values below the range, how to write what is usually meant by them.
    """
    bounds = {"low": low, "high": high, "above": above, "choices": tuple(choices)}
    metadata = {"help": help, "instead": instead, **bounds}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of option sets: refuses nonsense at construction, reads values from text, knows its fields' help."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value is None and f.default is None:
                continue
            kind, several = value_type(type(self), f.name)
            if several:
                # One text is one item: taken for a sequence it would be its letters.
                value = tuple(value) if isinstance(value, (list, tuple)) else (value,)
                object.__setattr__(self, f.name, value)
            for item in value if several else (value,):
                _check(f, item, kind)

    @classmethod
    def fields(cls) -> dict[str, dataclasses.Field[Any]]:
        """Field by name, in order of declaration."""
        return {f.name: f for f in dataclasses.fields(cls)}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Any:
        """Builds the options from names and values; text is read as the field's type.

        Raises:
            OptionError: a name that is no field (with the nearest one), or a value out of range.
        """
        known = cls.fields()
        for name in values:
            if name not in known:
                raise OptionError(f"unknown option {name!r}.{nearest(name, known)}", f"Allowed: {', '.join(known)}")
        return cls(**{n: _read(cls, n, v) if isinstance(v, str) else v for n, v in values.items()})

    @classmethod
    def check(cls, name: str, value: Any) -> None:
        """Refuses a value that a field cannot have.

        Raises:
            OptionError: as at construction.
        """
        _check(cls.fields()[name], value, value_type(cls, name)[0])

    @classmethod
    def on_command_line(cls, name: str, value: str) -> str:
        """A field as the command line takes it: `--max-steps 10`, `--no-packing`."""
        dashed = name.replace("_", "-")
        if value_type(cls, name)[0] is bool:
            return f"--no-{dashed}" if value.lower() in FALSE else f"--{dashed}"
        return f"--{dashed} " + shell("{}", value)

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as plain values for JSON."""
        return {f.name: plain(v) for f in dataclasses.fields(self) if (v := getattr(self, f.name)) != f.default}


def plain(value: Any) -> Any:
    """Tuples as lists, so that the value survives a trip through JSON or YAML unchanged."""
    return list(value) if isinstance(value, tuple) else value


@functools.cache  # they are read anew from their source each time, for each field of each check
def _annotations(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def value_type(cls: type, name: str) -> tuple[type, bool]:
    """The type of a field without its `None`, and whether it holds several values."""
    annotation = _annotations(cls)[name]
    parts = [a for a in typing.get_args(annotation) if a is not type(None)]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        annotation = parts[0]
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


def _check(f: dataclasses.Field[Any], item: Any, kind: type) -> None:
    allowed = {float: (int, float), int: (int,), bool: (bool,), str: (str,)}[kind]
    right = isinstance(item, allowed) and (kind is bool or not isinstance(item, bool))
    if isinstance(item, str):
        try:
            item.encode()
        except UnicodeEncodeError:  # the command line makes halves of characters of bytes that are not UTF-8
            raise OptionError(f"{f.name} is not UTF-8: {ascii(item)[:60]}", "Write it in UTF-8.") from None
    if not right or not _inside(f.metadata, item):
        close = nearest(item, f.metadata["choices"]) if isinstance(item, str) else ""
        most = ", below 2^63" if right and kind is int and item >= WHOLE else ""
        raise OptionError(
            f"{f.name} cannot be {item!r}{close and '.' + close}",
            f"Allowed for {f.name}: {describe_range(f, kind)}{most}{_instead(f, item)}",
        )


def _instead(f: dataclasses.Field[Any], item: Any) -> str:
    """What is usually meant by a value below a field's range."""
    low = f.metadata["low"] if f.metadata["low"] is not None else f.metadata["above"]
    below = isinstance(item, (int, float)) and not isinstance(item, bool) and low is not None and item <= low
    return f". {f.metadata['instead']}" if below and f.metadata.get("instead") else ""


def _inside(m: Mapping[str, Any], item: Any) -> bool:
    if m["choices"] and item not in m["choices"]:
        return False
    if isinstance(item, str):
        return bool(item)
    return (
        (m["low"] is None or item >= m["low"])
        and (m["above"] is None or item > m["above"])
        and (m["high"] is None or item <= m["high"])
        and abs(item) < (WHOLE if isinstance(item, int) else math.inf)  # nor is not-a-number, and JSON has neither
    )


def describe_range(f: dataclasses.Field[Any], kind: type) -> str:
    """What a field accepts, in words: `a number above 0 and up to 1`."""
    m = f.metadata
    if m["choices"]:
        return ", ".join(m["choices"])
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text that is not empty"}[kind]
    low = f"from {m['low']}" if m["low"] is not None else f"above {m['above']}" if m["above"] is not None else ""
    high = f"up to {m['high']}" if m["high"] is not None else ""
    return " ".join([words, *([" and ".join(filter(None, (low, high)))] if low or high else [])])


def _read(cls: type[Options], name: str, text: str) -> Any:
    kind, several = value_type(cls, name)
    if several:
        return (text,)
    if kind is bool and text.lower() in (*TRUE, *FALSE):
        return text.lower() in TRUE
    try:
        return int(text) if kind is int else float(text) if kind is float else text
    except ValueError:
        return text  # the check at construction names the field and what it accepts


GREEDY = "For the likeliest token at each step: --no-do-sample"


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Options):
    """How to generate. Names are those of transformers' `GenerationConfig`; `None` is the model's own default."""

    #: Whether a prompt's texts differ even if each takes the likeliest tokens, as where each has a latent of its own.
    greedy_varies: ClassVar[bool] = False

    max_new_tokens: int | None = option(None, "Most tokens to generate after the prompt.", low=1)
    min_new_tokens: int | None = option(None, "Fewest tokens before the text may end.", low=0)
    do_sample: bool | None = option(None, "Sample; if false, take the likeliest token at each step.")
    temperature: float | None = option(
        None, "Divides the scores: under 1 is safer, over 1 is wilder.", above=0, instead=GREEDY
    )
    top_k: int | None = option(
        None, "Sample among the k likeliest tokens only; 0 turns it off.", low=0, instead="To turn it off: --top-k 0"
    )
    top_p: float | None = option(
        None, "Sample among the likeliest tokens whose probabilities add up to p.", above=0, high=1, instead=GREEDY
    )
    min_p: float | None = option(
        None, "Sample among tokens at least this share as likely as the likeliest.", low=0, high=1
    )
    repetition_penalty: float | None = option(
        None,
        "Over 1 makes tokens that already occurred less likely.",
        above=0,
        instead="To turn it off: --repetition-penalty 1",
    )
    no_repeat_ngram_size: int | None = option(None, "Never repeat a run of this many tokens; 0 turns it off.", low=0)
    num_beams: int | None = option(
        None, "Beam search with this many beams; 1 is no beam search.", low=1, instead="To turn it off: --num-beams 1"
    )
    length_penalty: float | None = option(
        None, "Beam search: over 0 favours longer texts, under 0 shorter ones.", low=-20, high=20
    )
    num_return_sequences: int | None = option(None, "Completions for each prompt.", low=1)
    stop_strings: tuple[str, ...] | None = option(None, "End the text before the first of these strings.")
    truncate_prompt: bool | None = option(None, "Cut a prompt that is longer than the context on its left.")
    seed: int | None = option(
        None,
        "Seed of all random draws; without one it is drawn and reported.",
        low=0,
        instead="For a random one leave it out",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        contradictions.refuse_generation({name: getattr(self, name) for name in self.fields()})
        low, high = self.min_new_tokens, self.max_new_tokens
        if low is not None and high is not None and low > high:
            raise OptionError(
                f"min_new_tokens={low} is more than max_new_tokens={high}", "Lower the one, raise the other."
            )
        n = self.num_return_sequences or 1
        if n > 1 and self.do_sample is False and (self.num_beams or 1) == 1 and not self.greedy_varies:
            raise OptionError(
                f"num_return_sequences={n} without sampling would give the same text {n} times",
                "Turn sampling on (--do-sample) or use as many beams (--num-beams).",
            )
        if self.num_beams and self.num_beams > 1 and n > self.num_beams:
            raise OptionError(
                f"num_return_sequences={n} is more than num_beams={self.num_beams}", f"Set num_beams to {n} or more."
            )


def drawn_seed() -> int:
    """A seed for who gave none."""
    return secrets.randbits(31)


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
