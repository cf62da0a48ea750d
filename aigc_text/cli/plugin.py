"""`aigc-text plugin`: the package of a new backend."""

from __future__ import annotations

import click

from aigc_text.backends.scaffold import class_name, write_plugin
from aigc_text.errors import shell

from .terminal import notice


@click.group()
def command() -> None:
    """Write the package of a new backend."""


@command.command()
@click.argument("name")
@click.option("--torch", is_flag=True, help="A torch model that is trained here, instead of a backend without torch.")
@click.option("--output", help="The package's folder, which must be new or empty.  [default: aigc-text-NAME]")
def new(name: str, torch: bool, output: str | None) -> None:
    """Write a package folder for the backend NAME: module, pyproject.toml, README and tests.

    \b
    aigc-text plugin new haiku
    aigc-text plugin new haiku --torch
    """
    folder = write_plugin(name, output, torch=torch)
    picked = f"{folder / f'aigc_text_{name}.py'}:{class_name(name)}"
    notice(f"Written: {folder}")
    notice(shell("Check it: aigc-text backends check {}", picked))
    notice(shell("Install it: pip install -e {}", f"./{folder}" if not folder.is_absolute() else folder))
