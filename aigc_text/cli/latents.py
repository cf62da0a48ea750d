"""`aigc-text latents`: the latent vectors of a file's texts, a difference of two groups, a picture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigc_text.errors import BackendError, DataError, OptionError, nearest, shell
from aigc_text.options.contradictions import flag
from aigc_text.utils.output_file import OutputFile

from .parameters import LOADING, asked_for, given, loading_options
from .terminal import notice

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend

PICTURES = (".png", ".svg")
KINDS = (".parquet", ".npy", ".json", *PICTURES)


@click.command()
@click.argument("file")
@click.option("--backend", help="Whose latents; see: aigc-text backends.  [default: the model's own, else vae]")
@click.option("--model", help="A hub id or folder; by default the backend's own model.")
@click.option("--text-column", default="text", show_default=True, help="The text's column in JSONL, CSV, Parquet, ….")
@click.option("--group-column", help="A column that says which group a text is of.")
@click.option(
    "--output", "outputs", multiple=True, required=True, help="What to write, by its ending; may be repeated."
)
@click.option("--log-variance/--no-log-variance", default=False, show_default=True, help="Parquet: that column too.")
@click.option(
    "--difference", metavar="ONE,OTHER", help="The groups of a .json file: the mean of ONE less that of OTHER."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Pictures: seed of the draws from the prior."
)
@click.option("--overwrite", is_flag=True, help="Replace these files if they exist.")
@loading_options
def command(
    file: str,
    backend: str | None,
    model: str | None,
    text_column: str,
    group_column: str | None,
    outputs: tuple[str, ...],
    log_variance: bool,
    difference: str | None,
    seed: int,
    overwrite: bool,
    **values: Any,
) -> None:
    """Write the latent vectors of the texts of FILE: the posterior mean of each. Of plain text each line is a text.

    \b
    .parquet    text, group, mean, log_variance
    .npy        the means alone, (texts, units)
    .json       the difference of two groups' means, for: aigc-text generate -o z_add=FILE
    .png, .svg  latents against the prior, and texts against their reconstructions

    \b
    aigc-text latents captions.txt --model runs/vae --output latents.parquet
    aigc-text latents captions.csv --model runs/vae --group-column topic --output latents.png
    """
    from aigc_text.api import find, load

    # Everything that can be wrong in the input is found before a model is loaded.
    _refuse_unused(outputs)
    for output in outputs:
        _check(output, difference, group_column)
    with ExitStack() as claims:
        files = [claims.enter_context(OutputFile(output, overwrite)) for output in outputs]
        name, cls, model = find(backend or ("vae" if model is None else None), model)
        if not cls.capabilities.latents:
            raise BackendError(f"backend {name!r} has no latents", "These have: vae. See: aigc-text backends")
        texts, groups = _read(file, text_column, group_column)
        chosen = _groups(difference, groups) if difference else None
        loaded: Any = load(name, model, **given({name: values[name] for name in LOADING}))
        found = loaded.posteriors(texts)
        for target in files:
            write = _writer(target.name, texts, groups, chosen, found, loaded, log_variance, seed)
            with target.replaced() as temporary:
                write(temporary)
            notice(f"{target.name}: {len(texts)} texts, {found.mean.shape[1]} units")


USES = {
    "log_variance": (".parquet",),
    "difference": (".json",),
    "seed": PICTURES,
    "group_column": KINDS[:1] + KINDS[2:],
}


def _refuse_unused(outputs: tuple[str, ...]) -> None:
    """Refuses an option that is of no account to any of the files.

    Raises:
        OptionError: naming it, the files and what it is for.
    """
    kinds = {Path(output).suffix.lower() for output in outputs}
    for name in asked_for({}):
        if name in USES and kinds.isdisjoint(USES[name]):
            given = " ".join(shell("{}", Path(output)) for output in outputs)
            what = f"{flag(name)} and --output " + f"{given} contradict each other"
            raise OptionError(
                f"{what}: it is for {', '.join(USES[name])}", f"Leave {flag(name)} out, or add an --output."
            )


def _check(output: str, difference: str | None, group_column: str | None) -> None:
    path = Path(output)
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise OptionError(f"--output {output} is of no known kind", f"Allowed endings: {', '.join(KINDS)}")
    if (kind == ".json") and not (difference and group_column):
        raise OptionError(
            f"--output {output} is a difference of two groups, and they are not given",
            "Give them: --group-column topic --difference beach,kitchen",
        )
    if not path.absolute().parent.is_dir():
        raise OptionError(f"--output {output}: there is no folder {path.parent}", "Make it first, or choose another.")


def _read(file: str, text_column: str, group_column: str | None) -> tuple[list[str], list[str] | None]:
    """The texts, and the group of each if there is a column of them."""
    from aigc_text.data.sources import Pair, Source, refuse_unused

    if group_column is None:
        source = Source(file, text_column=text_column, sample_by="line")
        refuse_unused([source], asked_for({}))
        return [str(text) for text in source], None
    pairs = list(Source(file, prompt_column=group_column, completion_column=text_column))
    kept = [pair for pair in pairs if isinstance(pair, Pair)]
    return [pair.completion for pair in kept], [pair.prompt for pair in kept]


def _groups(difference: str, groups: list[str] | None) -> tuple[str, str]:
    known = sorted(set(groups or ()))
    names = [name.strip() for name in difference.split(",")]
    if len(names) != 2:
        raise OptionError(
            f"--difference {difference!r} does not name two groups", "Write it so: --difference ONE,OTHER"
        )
    for name in names:
        if name not in known:
            raise DataError(
                f"--difference: no text is of group {name!r}.{nearest(name, known)}", f"Groups: {', '.join(known[:20])}"
            )
    return names[0], names[1]


def _writer(
    path: Path,
    texts: list[str],
    groups: list[str] | None,
    chosen: tuple[str, str] | None,
    found: Any,
    loaded: Any,
    variances: bool,
    seed: int,
) -> Callable[[Path], None]:
    """What writes a file of the kind that its name ends with; all that the model does for it is done here."""
    kind = path.suffix.lower()
    if kind in PICTURES:
        return _picture(texts, groups, found, loaded, seed)
    if kind == ".parquet":
        return lambda place: _table(place, texts, groups, found, variances, loaded)
    if kind == ".npy":
        return lambda place: _array(place, found)
    return lambda place: _difference(place, chosen, groups, found, loaded)


def _table(
    path: Path, texts: list[str], groups: list[str] | None, found: Any, variances: bool, loaded: Backend
) -> None:
    from aigc_text.data.tables import write_parquet

    columns: dict[str, Any] = {"text": texts, **({"group": groups} if groups is not None else {})}
    columns["mean"] = found.mean.numpy()
    if variances:
        columns["log_variance"] = found.log_variance.numpy()
    write_parquet(path, columns, {"backend": loaded.name, "model": loaded.source, "revision": loaded.revision})


def _array(path: Path, found: Any) -> None:
    import numpy as np

    with path.open("wb") as stream:  # by its name, numpy would give the file an ending of its own
        np.save(stream, found.mean.numpy())


def _difference(path: Path, chosen: Any, groups: Any, found: Any, loaded: Any) -> None:
    one, other = ((name, found.mean[[group == name for group in groups]]) for name in chosen)
    loaded.difference(one, other).write(path)


def _picture(texts: list[str], groups: list[str] | None, found: Any, loaded: Any, seed: int) -> Callable[[Path], None]:
    """Draws at most so many texts as can be told apart, evenly spread."""
    import numpy as np

    from aigc_text.data.encoding import spread
    from aigc_text.plots.latents import POINTS, draw

    chosen = spread(len(texts), POINTS)
    written = [c.text for c in loaded.generate([texts[n] for n in chosen], mode="reconstruct", batch_size=32)]
    again = loaded.posteriors(written).mean.numpy()
    prior = np.random.default_rng(seed).standard_normal((len(chosen), again.shape[1]))
    some = None if groups is None else [groups[n] for n in chosen]
    return lambda place: draw(found.mean.numpy()[chosen], again, prior, some, place)
