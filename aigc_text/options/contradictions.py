"""Options that contradict each other, in one table for all commands and for Python. Standard library only.

Only what was asked for counts: an option that nobody gave is never in conflict with one that somebody did. What is
refused here would otherwise be ignored, for both could not be in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aigc_text.errors import OptionError

GIVEN = object()  # any value


class Rule(NamedTuple):
    """Two options that cannot both be in force.

    Attributes:
        one, other: their names: fields of option classes, or parameters of commands.
        why: what makes them contradict each other.
        is_: the value of `one` for which they do.
        other_is: that of `other`.
        needs: `one` is for `other` alone, so that it is refused where `other` is missing, or has another value than
            one of `other_is`.
        instead: an option that `one` may be for in place of `other`.
    """

    one: str
    other: str
    why: str
    is_: Any = GIVEN
    other_is: Any = GIVEN
    needs: bool = False
    instead: str = ""


SAMPLING = ("temperature", "top_k", "top_p", "min_p")  # of no account where nothing is drawn
LIKELIEST = "without sampling the likeliest token is taken at each step"
BEAMS = "beam search is deterministic unless sampling is enabled (--do-sample)"

GENERATION = (
    *(Rule("do_sample", name, LIKELIEST, is_=False) for name in SAMPLING),
    Rule("num_beams", "length_penalty", "one beam is no beam search, which the penalty is for", is_=1),
)
BEAM_SEARCH = (Rule("length_penalty", "num_beams", "it is for beam search", other_is=(4,), needs=True),)
COLUMNS = "columns of prompts and completions say where the text is"
NO_VALIDATION = "nothing is held out, so there is no validation"
TRAINING = (
    Rule("max_steps", "epochs", "both say when the training ends"),
    Rule("streaming", "epochs", "the length of streamed data is not known", is_=True),
    Rule("prompt_column", "text_column", COLUMNS),
    Rule("prompt_column", "sample_by", COLUMNS),
    Rule("schedule", "min_rate", "a constant rate has no end of its own", is_="constant"),
    Rule("plateau_factor", "schedule", "it is for the schedule plateau", other_is=("plateau",), needs=True),
    Rule("plateau_patience", "schedule", "it is for the schedule plateau", other_is=("plateau",), needs=True),
    Rule("deliver", "early_stopping", "with early stopping the best weights are delivered", is_="last"),
    Rule("sample_prompts", "samples", "nothing is sampled without a number of samples", needs=True),
    *(
        Rule(name, "lora_rank", "it is for LoRA", needs=True)
        for name in ("lora_alpha", "lora_dropout", "lora_targets", "merge")
    ),
)
#: Of options that need a validation, where the command has switched it off.
VALIDATING = tuple(
    Rule("validation_split", name, NO_VALIDATION, is_=0)
    for name in ("early_stopping", "eval_every", "eval_on_start", "eval_blocks", "best", "samples")
) + (Rule("validation_split", "deliver", NO_VALIDATION, is_=0, other_is="best"),)
#: Of the optimizer, where no parameter group has another one.
OPTIMIZERS = (
    Rule("momentum", "optimizer", "AdamW and ASGD have none", other_is=("sgd", "muon"), needs=True),
    Rule("adam_beta2", "optimizer", "it is AdamW's", other_is=("adamw", "muon"), needs=True),
    Rule("average_from", "optimizer", "only ASGD averages", other_is=("asgd",), needs=True),
)
TO_FILE = Rule("overwrite", "output", "there is no file to replace", needs=True)
COMMANDS: dict[str, tuple[Rule, ...]] = {
    "generate": (
        Rule("prompt", "prompts_file", "prompts come from one place"),
        Rule("prompt_column", "prompts_file", "it is a column of that file", needs=True),
        Rule("prompt_column", "template", "a template names the columns that it takes"),
        Rule("resume", "overwrite", "the one goes on, the other begins anew"),
        Rule("max_copy", "copy_source", "neither says anything without the other", needs=True),
        Rule("copy_source", "max_copy", "neither says anything without the other", needs=True),
        Rule("echo", "form", "records hold their prompts anyway", other_is=("text",), needs=True),
        TO_FILE,
    ),
    "train": (
        Rule("from_scratch", "model", "a new model begins with random weights"),
        Rule("from_scratch", "lora_rank", "an adapter is saved without its base, which could not be found again"),
        Rule("tokenizer", "from_scratch", "a model that is there has its own", needs=True),
        Rule("vocab_size", "from_scratch", "a model that is there has its own", needs=True),
        Rule("validation", "validation_split", "both say what to validate on"),
    ),
    "score": (
        Rule("tokens", "form", "it is for records", other_is=("jsonl",), needs=True),
        TO_FILE._replace(instead="picture"),
    ),
    "evaluate": (TO_FILE,),
    "evaluate-code": (
        Rule("syntax_only", "run_untrusted_code", "the one runs nothing, the other runs it"),
        Rule("syntax_only", "run_unconfined", "the one runs nothing, the other runs it"),
        Rule("run_untrusted_code", "run_unconfined", "the one locks programs in, the other does not"),
        *(
            Rule("syntax_only", name, "nothing is run")
            for name in ("seconds", "memory", "disk", "printed", "workers", "ks")
        ),
        TO_FILE,
    ),
    "copies": (Rule("show", "form", "JSON holds all that was found", other_is=("table",), needs=True), TO_FILE),
    "report": (
        *(
            Rule("tallied", name, "one counts answers, the other is of a page")
            for name in ("output", "overwrite", "title", "seed", "pairs", "samples")
        ),
        Rule("key", "tallied", "a page writes its key itself", needs=True),
        Rule("form", "tallied", "a page has one form", needs=True),
        Rule("pairs", "seed", "without pairs nothing is drawn", is_=0),
    ),
    "latents": (),
}
#: Options that are not called as their parameters are.
FLAGS = {
    "prompts_file": "--prompts",
    "form": "--format",
    "stop_strings": "--stop",
    "tallied": "--tally",
    "ks": "--k",
    "num_return_sequences": "-n",
    "num_samples": "-n",
}


def refuse_generation(given: Mapping[str, Any]) -> None:
    """Refuses options of generation that contradict each other; see `refuse`.

    Raises:
        OptionError: naming both options, and why.
    """
    refuse(GENERATION, given)
    if (given.get("num_beams") or 1) > 1 and given.get("do_sample") is None:
        refuse([Rule("num_beams", name, BEAMS) for name in SAMPLING], given)


def refuse_training(given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuses options of training that contradict each other; see `refuse`.

    Raises:
        OptionError: naming both options, and why.
    """
    values = {**values, "samples": values.get("samples") or None}
    refuse(TRAINING, given, values)
    if not given.get("group"):  # else a group may have an optimizer of its own
        refuse(OPTIMIZERS, given, values)
    if not given.get("validation"):
        refuse(VALIDATING, given, values)


def refuse(rules: Iterable[Rule], given: Mapping[str, Any], values: Mapping[str, Any] | None = None) -> None:
    """Refuses options that contradict each other.

    Args:
        rules: of the table.
        given: what was asked for, by name; `None` and empty values count as not given.
        values: what is in force where it was not asked for, as far as it is known: defaults.

    Raises:
        OptionError: naming both options, and why.
    """
    given = {name: value for name, value in given.items() if value is False or _there(value)}
    known = {**(values or {}), **given}
    for rule in rules:
        if not _matches(rule.is_, given, rule.one):
            continue
        if rule.needs:
            value = known.get(rule.other)
            if rule.instead and _there(known.get(rule.instead)):
                continue
            if _there(value) if rule.other_is is GIVEN else value in rule.other_is:
                continue
            raise _lacking(rule, given, known)
        if _matches(rule.other_is, given, rule.other):
            raise _contradictory(rule, given)


def _matches(wanted: Any, given: Mapping[str, Any], name: str) -> bool:
    """Whether an option was given with the value meant; a flag that was given as false asks for nothing."""
    if name not in given:
        return False
    if wanted is GIVEN:
        return given[name] is not False or name in ("echo", "tokens")
    return bool(given[name] == wanted)


def _there(value: Any) -> bool:
    """Whether a value asks for anything: zero does."""
    return value is not None and value is not False and value != () and value != ""


def flag(name: str, value: Any = None) -> str:
    """An option as it is written on the command line, with its value if one is given."""
    dashed = FLAGS.get(name, f"--{name.replace('_', '-')}")
    if value is False:
        return f"--no-{dashed.removeprefix('--')}"
    if value is None or value is True:
        return dashed
    values = value if isinstance(value, (list, tuple)) else [value]
    return f"{dashed} {' '.join(map(str, values))}"[:60]


def _contradictory(rule: Rule, given: Mapping[str, Any]) -> OptionError:
    one, other = (flag(name, given[name]) for name in (rule.one, rule.other))
    return OptionError(f"{one} and {other} contradict each other: {rule.why}", _leave_out(rule))


def _lacking(rule: Rule, given: Mapping[str, Any], known: Mapping[str, Any]) -> OptionError:
    one, other = flag(rule.one, given[rule.one]), flag(rule.other, known.get(rule.other) or None)
    if _there(known.get(rule.other)):
        return OptionError(f"{one} and {other} contradict each other: {rule.why}", _leave_out(rule))
    add = flag(rule.other, None if rule.other_is is GIVEN else rule.other_is[0])
    either = f"{other} or {flag(rule.instead)}" if rule.instead else other
    return OptionError(f"{one} without {either}: {rule.why}", f"Leave {flag(rule.one)} out, or add {add}.")


def _leave_out(rule: Rule) -> str:
    return f"Leave one of them out: {flag(rule.one)} or {flag(rule.other)} (in Python {rule.one}, {rule.other})."
