"""`aigc-text backends`: what can be picked, what it can do, and whether it keeps the contract."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click

from aigc_text.backends.registry import get_backend, list_backends
from aigc_text.errors import OptionError, shell
from aigc_text.options.base import Options, describe_range, value_type
from aigc_text.options.generation import GenerationOptions
from aigc_text.options.training import TrainingOptions

from .terminal import write


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List, show and check backends. Listing imports none of them."""
    if ctx.invoked_subcommand is not None:
        return
    origins = list(list_backends().values())
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "name": o.name,
                "distribution": o.distribution,
                "version": o.version,
                "capabilities": list(o.capabilities) if o.capabilities is not None else None,
            }
            for o in origins
        ]
        _say(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = [("NAME", "FROM", "VERSION", "CAPABILITIES")]
    for o in origins:
        show = shell("see: aigc-text backends show {}", o.name)
        words = ", ".join(o.capabilities) if o.capabilities is not None else show
        table.append((o.name, o.distribution, o.version, words))
    widths = [max(len(row[i]) for row in table) for i in range(3)]
    for row in table:
        _say("  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]]))


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show a backend's capabilities and all its options."""
    backend = get_backend(name)
    names = backend.accepted()
    about = (backend.__doc__ or "").strip().splitlines()
    training = getattr(backend, "Training", TrainingOptions)
    own = [n for n in training.fields() if n not in TrainingOptions.fields()]
    if as_json:
        found = {
            "name": name,
            "about": about[0] if about else "",
            "capabilities": dataclasses.asdict(backend.capabilities),
            "options": {n: _describe(backend.Options, n) for n in names},
            "training_options": {n: _describe(training, n) for n in own},
        }
        _say(json.dumps(found, indent=1, ensure_ascii=False))
        return
    _say(f"{name}: {about[0] if about else ''}")
    _say(f"Capabilities: {', '.join(backend.capabilities.words())}")
    shared = GenerationOptions.fields()
    _list("Options (--name on the command line):", backend.Options, [n for n in names if n in shared])
    _list("Options of its own (-o name=value):", backend.Options, [n for n in names if n not in shared])
    _list("Training options of its own (-o name=value):", training, own)


def _say(line: str) -> None:
    write(sys.stdout, line + "\n")  # click.echo would take colours out of what goes to a pipe


def _list(heading: str, options: type[Options], names: list[str]) -> None:
    if names:
        _say(heading)
    for n in names:
        about = _describe(options, n)
        _say(f"  {n}: {about['help']} ({about['allowed']})")


def _describe(options: type[Options], name: str) -> dict[str, str]:
    field = options.fields()[name]
    kind, several = value_type(options, name)
    allowed = describe_range(field, kind)
    return {"help": field.metadata["help"], "allowed": f"several: {allowed}" if several else allowed}


@command.command()
@click.argument("name")
@click.option("--model", help="The model to check it with; by default the backend's own, else random weights.")
@click.option("--prompt", "prompts", multiple=True, help="A text to try it with; give three or more, or none.")
def check(name: str, model: str | None, prompts: tuple[str, ...]) -> None:
    """Hold a backend to the contract that all backends pass."""
    if 0 < len(prompts) < 3:
        raise OptionError(
            f"--prompt is given {len(prompts)} times, and three or more are needed", "Give others, or none."
        )
    from aigc_text.testing.contract import check_backend

    for passed in check_backend(name, model, prompts):
        _say(f"ok  {passed}")
    _say(f"{name} keeps the contract.")
