"""Command-line options made from the fields of option classes, with their help and their ranges; and from YAML."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from aigc_text.errors import OptionError, nearest, one_line, shell
from aigc_text.options import contradictions
from aigc_text.options.base import Options, value_type
from aigc_text.options.training import TrainingOptions

SHORT = {"num_return_sequences": ["-n"], "num_samples": ["-n"], "stop_strings": ["--stop"]}


def options_of(cls: type[Options], but: Sequence[str] = ()) -> Callable[[Any], Any]:
    """A decorator that adds one option a field but some; those not given arrive as `None`."""

    def decorate(command: Any) -> Any:
        for name in (n for n in reversed(cls.fields()) if n not in but):
            command = _option(cls, name)(command)
        return command

    return decorate


def _option(cls: type[Options], name: str) -> Callable[[Any], Any]:
    field = cls.fields()[name]
    kind, several = value_type(cls, name)
    dashed = name.replace("_", "-")
    text = field.metadata["help"]
    if field.default is not None:
        text += f"  [default: {field.default}]"
    if kind is bool:
        return click.option(f"--{dashed}/--no-{dashed}", name, default=None, help=text)
    names = [*SHORT.get(name, []), f"--{dashed}"]
    metavar = "|".join(field.metadata["choices"]) or {int: "INTEGER", float: "NUMBER", str: "TEXT"}[kind]
    # Values stay text here: the option class reads and checks them, so that there is one message for both doors.
    return click.option(*names, name, default=None, multiple=several, metavar=metavar, help=text)


LOADING = ("revision", "dtype", "device", "trust_remote_code")  # what `loading_options` adds


def loading_options(command: Any) -> Any:
    """A decorator that adds what says how a model is loaded; those not given arrive as `None`."""
    added = (
        click.option("--revision", help="Branch, tag or commit of a hub model."),
        click.option("--dtype", help="fp32, bf16 or fp16; by default fp32 on the CPU."),
        click.option("--device", help="cpu, cuda, …; by default the best there is."),
        click.option("--trust-remote-code", is_flag=True, default=None, help="Run code that comes with the model."),
    )
    for option in reversed(added):
        command = option(command)
    return command


ENGINE = ("engine", "quantize")  # what `engine_options` adds


def engine_options(command: Any) -> Any:
    """A decorator that adds what says how a model is computed; those not given arrive as `None`."""
    added = (
        click.option("--engine", help="What decodes: auto, torch or ctranslate2.  [default: auto, which is torch]"),
        click.option("--quantize", help="int8, with --engine ctranslate2: faster, and a little less exact."),
    )
    for option in reversed(added):
        command = option(command)
    return command


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Those that the user gave."""
    return {k: v for k, v in values.items() if v is not None and v != ()}


def asked_for(typed: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the running command's options that the user asked for.

    What a file of options says counts where it differs from the default, for a run's own record holds all options.

    Args:
        typed: values by name as their option classes have read them.
    """
    context = click.get_current_context()
    found = {}
    for parameter in context.command.params:
        name = str(parameter.name)
        value, source = typed.get(name, context.params.get(name)), context.get_parameter_source(name)
        if (
            source is ParameterSource.COMMANDLINE
            or source is ParameterSource.DEFAULT_MAP
            and value != _default(parameter)
        ):
            found[name] = value
    return found


def overridden(rules: Sequence[contradictions.Rule]) -> list[str]:
    """Options of a file that contradict one of the command line, which overrides them."""
    context = click.get_current_context()
    where = {str(p.name): context.get_parameter_source(str(p.name)) for p in context.command.params}
    pairs = [pair for rule in rules if not rule.needs for pair in ((rule.one, rule.other), (rule.other, rule.one))]
    line, file = ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP
    return [other for one, other in pairs if where.get(one) is line and where.get(other) is file]


def _default(parameter: click.Parameter) -> Any:
    name, known = str(parameter.name), TrainingOptions.fields()
    if name not in known:
        return parameter.default
    return TrainingOptions.STANDARD.get(name, known[name].default)


def refuse_contradictions(command: str, typed: Mapping[str, Any] | None = None) -> None:
    """Refuses options of the running command that contradict each other, before anything else is done.

    Args:
        command: its name in the table.
        typed: values by name as their option classes have read them.

    Raises:
        OptionError: naming both options, and why.
    """
    values = click.get_current_context().params
    given = asked_for(typed or {})
    contradictions.refuse(contradictions.COMMANDS[command], given, {**values, **(typed or {})})
    _refuse_twice(given)


def _refuse_twice(given: Mapping[str, Any]) -> None:
    """Refuses `-o name=value` for an option that was given by its own name too."""
    for pair in (*given.get("extra", ()), *given.get("config", ())):
        name = pair.partition("=")[0].replace("-", "_")
        if given.get(name) not in (None, ()):
            own = contradictions.flag(name, given[name])
            raise OptionError(
                f"-o {pair} and {own} contradict each other: they are one option", shell("Leave out: -o {}", pair)
            )


OF_FILE = "aigc_text.pairs"  # where a context keeps the pairs of a file of options


def key_values(pairs: tuple[str, ...]) -> dict[str, str]:
    """`-o key=value` pairs, over those of a file of options.

    Raises:
        OptionError: no `=`, or a key given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise OptionError(f"-o {pair!r} is not of the form key=value", "E.g. -o suffix='return x'")
        key = key.replace("-", "_")
        if key in found:
            raise OptionError(f"-o {key} is given twice", "Give it once.")
        found[key] = value
    context = click.get_current_context(silent=True)
    return {**(context.meta.get(OF_FILE, {}) if context else {}), **found}


def config_option(*ignored: str) -> Callable[[Any], Any]:
    """A decorator that adds `--config FILE`: values for the command's options, which the command line overrides.

    Args:
        ignored: names that a file may hold and that are not options: what a run's own record has besides.
    """

    def read(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
        if path is not None:
            defaults, pairs = _of_file(ctx, path, ignored)
            ctx.default_map = {**(ctx.default_map or {}), **defaults}
            ctx.meta[OF_FILE] = {**ctx.meta.get(OF_FILE, {}), **pairs}

    return click.option(
        "--config",
        "config_file",
        is_eager=True,
        expose_value=False,
        callback=read,
        metavar="FILE",
        help="YAML or JSON file with any of these options; the command line overrides it.",
    )


def remembered(file: str, *ignored: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback of `--resume` and `--output`, both eager: what is not given is taken from what the run was begun with.

    Args:
        file: its name in the folder that `--output` names.
        ignored: as in `config_option`, whose file overrides this one.
    """

    def read(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        known = {**ctx.params, parameter.name: value}
        path = os.path.join(known.get("output") or "", file)
        if known.get("resume") and known.get("output") and os.path.isfile(path):
            from aigc_text.runs.run_dir import run_options

            run_options(Path(path))  # what is damaged is named as the run's record, not as a file of the user's
            defaults, pairs = _of_file(ctx, path, ignored)
            ctx.default_map = {**defaults, **(ctx.default_map or {})}
            ctx.meta[OF_FILE] = {**pairs, **ctx.meta.get(OF_FILE, {})}
        return value

    return read


def _of_file(ctx: click.Context, path: str, ignored: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values for a command's options in a file, and its pairs for `-o`.

    One pair on the command line overrides one pair of the file, not all of them.
    """
    options = {p.name: p for p in ctx.command.params if isinstance(p, click.Option) and p.name != "config_file"}
    values = _read_yaml(path)
    for name in list(values):
        if name in ignored or values[name] is None:
            del values[name]
        elif name not in options:
            allowed = f"Options: aigc-text {ctx.info_name} --help, written with underscores."
            raise OptionError(f"{path}: there is no option {name!r}.{nearest(name, map(str, options))}", allowed)
    pairs: dict[str, str] = {}
    for name in [k for k, v in values.items() if isinstance(v, dict) and options[k].multiple]:
        pairs = {str(k).replace("-", "_"): _text(v) for k, v in values.pop(name).items()}
    return {k: _as_given(path, k, v, options[k].multiple) for k, v in values.items()}, pairs


LARGEST_FILE, MOST_VALUES = 1 << 18, 10_000  # bytes of a file of options, and what its aliases may come to


def _read_yaml(path: str) -> dict[str, Any]:
    import yaml

    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise OptionError(f"{path} has more than {LARGEST_FILE} bytes", "Give a file of options, not of data.")
        found = _plain(path, yaml.safe_load(raw.decode("utf-8-sig")))
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}", "Give a YAML file with --config.") from None
    except UnicodeDecodeError:
        raise OptionError(f"{path} is not UTF-8", "Save it as UTF-8.") from None
    except OptionError:
        raise
    except Exception as error:  # yaml raises of its own and, for tags with a wrong value, whatever they run into
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        what = getattr(error, "problem", None) or one_line(str(error))[:100]
        raise OptionError(f"{where} is not valid YAML: {what}", "Write one option a line: max_steps: 500") from None
    if not isinstance(found, dict):
        raise OptionError(f"{path} holds no options", "Write one option a line: max_steps: 500")
    return {k.replace("-", "_"): v for k, v in found.items()}


def _plain(path: str, tree: Any) -> Any:
    """What JSON can hold, of a tree of YAML: a few aliases of aliases would be billions of values, or have no end.

    Raises:
        OptionError: too many values, or one that is no option's.
    """
    left = MOST_VALUES

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > 20:
            cure = "Write the values out, without aliases (*name) of aliases."
            raise OptionError(f"{path} holds more than {MOST_VALUES} values, or more than 20 in each other", cure)
        if isinstance(value, dict):
            return {plain(str(k), depth): plain(v, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple, set)):
            return [plain(v, depth + 1) for v in value]
        if isinstance(value, int) and value.bit_length() > 1000:
            raise OptionError(f"{path} holds a whole number of {value.bit_length()} bits", "Write a smaller one.")
        if isinstance(value, (bool, int, float, type(None))):
            return value
        text = str(value)
        if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
            raise OptionError(
                f"{path} holds text that is none: {ascii(text)[:60]}", "Leave out \\0 and halves of characters."
            )
        return text

    return plain(tree, 0)


def _as_given(path: str, name: str, value: Any, several: bool) -> Any:
    """A value of the file as the command line would have it: text, or a list of texts."""
    if isinstance(value, dict) or (isinstance(value, list) and not several):
        raise OptionError(f"{path}: {name} cannot be {value!r}", f"Write one value: {name}: …")
    if several:
        return [_text(v) for v in (value if isinstance(value, list) else [value])]
    return value if isinstance(value, bool) else _text(value)


def _text(value: Any) -> str:
    """As JSON would have it, so that `null`, `true` and lists can be read again; text as it is."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
