"""`aigc-text report`: one web page of runs, and the tally of its blind comparison."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from aigc_text.errors import OptionError
from aigc_text.utils.output_file import OutputFile, is_stream

from .parameters import refuse_contradictions
from .streams import written
from .terminal import notice, write

KEY = "report.key.json"


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="[RUN | NAME=RUN | ANSWERS.json]...")
@click.option("--output", help="The page: FILE.html. The key of its blind comparison is FILE.key.json.")
@click.option("--overwrite", is_flag=True, help="Replace the page and its key if they exist.")
@click.option("--title", help="Of the page.")
@click.option("--seed", default=0, show_default=True, help="Seed of the blind comparison's pairs and sides.")
@click.option("--pairs", type=click.IntRange(0), default=30, show_default=True, help="Most pairs to compare blindly.")
@click.option(
    "--samples", type=click.IntRange(0), default=8, show_default=True, help="Prompts whose texts are side by side."
)
@click.option("--tally", "tallied", is_flag=True, help="Count the answers of a blind comparison instead.")
@click.option("--key", help=f"With --tally: the key beside the page.  [default: {KEY}]")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="With --tally."
)
def command(
    runs: tuple[str, ...],
    output: str | None,
    overwrite: bool,
    title: str | None,
    seed: int,
    pairs: int,
    samples: int,
    tallied: bool,
    key: str | None,
    form: str,
) -> None:
    """Write one web page of RUNs that needs no network, or count the answers to its blind comparison.

    A RUN is a folder that train, evaluate or latents wrote, a picture, a .jsonl file of generated records, or a .json
    file that copies wrote.

    \b
    aigc-text report runs/small runs/large --output report.html
    aigc-text report lstm=runs/a gpt=runs/b comparison/ --output report.html
    aigc-text report --tally answers-ann.json answers-bob.json --key report.key.json
    """
    refuse_contradictions("report")
    if tallied:
        from aigc_text.html_report.tally import tally, written

        write(sys.stdout, written(tally(runs, KEY if key is None else key), form))
        return
    with ExitStack() as claims:
        path = _page(output)
        page = claims.enter_context(OutputFile(path, overwrite))
        if page.direct and pairs:
            notice("There is no blind comparison: its key needs a file beside the page.")
        key_file = None if page.direct else claims.enter_context(OutputFile(_key(path), overwrite))
        _write(runs, page, key_file, title, seed, 0 if page.direct else pairs, samples)


def _page(output: str | None) -> Path:
    """The page's file, by its name."""
    if not output:
        raise OptionError("nothing says where the page goes", "Add --output report.html")
    path = Path(output)
    if path.suffix.lower() not in (".html", ".htm") and not is_stream(path):
        raise OptionError(f"--output {output} is no name of a web page", "E.g. --output report.html")
    return path


def _key(page: Path) -> Path:
    return page.with_suffix(".key.json")


def _write(
    runs: tuple[str, ...],
    file: OutputFile,
    key_file: OutputFile | None,
    title: str | None,
    seed: int,
    pairs: int,
    samples: int,
) -> None:
    from aigc_text.html_report.page import build

    page = build(runs, title=title, seed=seed, pairs=pairs, samples=samples)
    with ExitStack() as files:  # the key is there before its page is
        stream = files.enter_context(written(file))
        if page.sheet is not None and key_file is not None:
            files.enter_context(written(key_file)).write(page.sheet.key())
        stream.write(page.html)
    for text in page.notices:
        notice(text)
    notice(f"The page is {file.name}")
    if page.sheet is not None and key_file is not None:
        notice(f"Whose texts its {len(page.sheet.pairs)} pairs are is in {key_file.name}: keep it from the raters.")
