"""Pictures of texts, with each token on the colour of its surprise."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aigc_text.scoring import surprisal

from .figures import blank, save

COLUMNS, LINES = 96, 100  # of a picture, at most
POINTS = 10  # size of its font
#: Fonts whose Chinese, Japanese and Korean characters have one width, those of Linux, macOS and Windows.
WIDE_FONTS = (
    *("Noto Sans Mono CJK SC", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei Mono"),
    *("WenQuanYi Micro Hei", "Source Han Sans SC", "PingFang SC", "Hiragino Sans GB", "SimSun", "Microsoft YaHei"),
)


def draw(blocks: Sequence[surprisal.Block], caption: str, picture: Path) -> None:
    """Draws texts with each token on the colour of its surprise, as PNG or SVG; of long ones the first `LINES` lines.

    Warns of characters that no installed font can show.
    """
    from matplotlib.patches import Rectangle

    rows: list[tuple[str, list[surprisal.Piece]]] = []  # (heading, []) or ("", a line)
    for block in blocks:
        rows.append((block.heading, []))
        rows += [("", line) for line in surprisal.lines(block.pieces, COLUMNS)]
    shown = rows[:LINES]
    fonts = _fonts("".join(heading + "".join(p.text for p in line) for heading, line in shown))
    advance, height = 0.602 * POINTS / 72, 1.5 * POINTS / 72  # inches of a column (DejaVu Sans Mono) and of a line
    size = ((COLUMNS + 2) * advance, (len(shown) + 5) * height)
    figure = blank(*size, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1, COLUMNS + 1), ylim=(len(shown) + 5, 0))
    axes.axis("off")
    style: dict[str, Any] = {"family": fonts, "size": POINTS, "va": "center", "parse_math": False}
    more = f"  (the first {LINES} of {len(rows)} lines)" if len(rows) > LINES else ""
    axes.text(0, 0.9, caption + more, **{**style, "weight": "bold"})
    for n, (heading, line) in enumerate(shown, 2):
        if not line:
            axes.text(0, n + 0.6, heading, color="#555555", **{**style, "size": 0.8 * POINTS})
        column = 0
        for text, bits in line:
            rgb = surprisal.colour(bits) if bits is not None else (255, 255, 255)
            wide = surprisal.width(text)
            if bits is not None:
                axes.add_patch(Rectangle((column, n), wide - 0.1, 0.96, color=[c / 255 for c in rgb], linewidth=0))
            axes.text(column, n + 0.5, text, color="white" if surprisal.is_dark(rgb) else "black", **style)
            column += wide
    _scale(figure, axes, len(shown) + 3, advance, height, size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # said once, by `_fonts`
        save(figure, picture)


def _scale(figure: Any, axes: Any, line: float, advance: float, height: float, size: tuple[float, float]) -> None:
    """A colour bar below the texts."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    place = (advance / size[0], 1 - (line + 0.8) * height / size[1], 30 * advance / size[0], 0.6 * height / size[1])
    colours = LinearSegmentedColormap.from_list("surprise", surprisal.COLOURS)
    drawn = ScalarMappable(Normalize(0, surprisal.TOP), colours)
    bar = figure.colorbar(drawn, cax=figure.add_axes(place), orientation="horizontal", extend="max")
    bar.set_ticks(range(0, int(surprisal.TOP) + 1, 3))
    bar.ax.tick_params(labelsize=0.8 * POINTS)
    bar.outline.set_linewidth(0.5)
    axes.text(33, line + 0.5, "bits a token", size=0.8 * POINTS, va="center", color="#555555")


def _fonts(text: str) -> list[str]:
    """The fonts to draw a text with; a warning if some of its characters are in none of them."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    installed = set(font_manager.get_font_names())
    families = ["DejaVu Sans Mono", *(f for f in WIDE_FONTS if f in installed), "DejaVu Sans"]
    faces = [FT2Font(font_manager.findfont(f)) for f in families]
    missing = sorted({c for c in text if not any(face.get_char_index(ord(c)) for face in faces)})
    if missing:
        warnings.warn(
            f"no font here has {len(missing)} characters of the picture ({''.join(missing[:8])}): they are boxes. "
            "Install one, such as Noto Sans Mono CJK, or write --picture texts.html",
            stacklevel=2,
        )
    return families
