"""Where a text surprises a model: its pieces with their bits, their colours, lines for a picture, and a web page."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aigc_text.outputs import Score

TOP = 12.0  # bits from which all pieces have the last colour: one token in 4,096
END = "∎"  # the end of a text
BREAK = "↵"  # a line's end, that its surprise can be seen
#: matplotlib's magma, perceptually uniform, from its light end to just before black.
COLOURS = ("#fcfdbf", "#feca8d", "#fd9668", "#f2625d", "#cf4070", "#a1307e", "#752181", "#471078", "#1a1042")


class Piece(NamedTuple):
    """A part of a text, and its surprise in bits; `None` where no token stands for it."""

    text: str
    bits: float | None


class Block(NamedTuple):
    """One text for a picture: a heading and its pieces."""

    heading: str
    pieces: Sequence[Piece]


def pieces(score: Score) -> Iterator[Piece]:
    """The pieces of a text by its tokens, joined the text itself, and `END` for its end.

    A character of several tokens is one piece, with the surprise of all of them.
    """
    at, held, waits = 0, 0.0, False
    for token in score.per_token:
        held, waits = held + token.nll / math.log(2), True
        if token.end > token.start:
            if token.start > at:
                yield Piece(score.text[at : token.start], None)
            yield Piece(score.text[token.start : token.end], held)
            at, held, waits = token.end, 0.0, False
    if at < len(score.text):
        yield Piece(score.text[at:], None)
    if waits:
        yield Piece(END, held)


def colour(bits: float) -> tuple[int, int, int]:
    """Red, green and blue, from 0 to 255, of a surprise."""
    place = min(max(bits / TOP, 0.0), 1.0) * (len(COLOURS) - 1)
    first = min(int(place), len(COLOURS) - 2)
    pair = [[int(c[n : n + 2], 16) for n in (1, 3, 5)] for c in COLOURS[first : first + 2]]
    r, g, b = (round(low + (high - low) * (place - first)) for low, high in zip(*pair, strict=True))
    return r, g, b


def is_dark(rgb: tuple[int, int, int]) -> bool:
    """Whether white is easier to read on a colour than black (its relative luminance, WCAG 2)."""
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.18


def width(text: str) -> int:
    """Columns of a text in a font whose characters have one width; of Chinese ones two."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def lines(found: Iterable[Piece], columns: int) -> Iterator[list[Piece]]:
    """Pieces in lines of at most `columns`, broken at line feeds, else before words, else where they must be."""
    line: list[Piece] = []
    room = columns
    for word in _words(found):
        size = sum(width(p.text) for p in word)
        if line and size > room and size <= columns:
            yield line
            line, room = [], columns
        for piece in (part for p in word for part in _cut(p, columns)):
            if width(piece.text) > room:
                yield line
                line, room = [], columns
            line.append(piece)
            room -= width(piece.text)
            if piece.text.endswith(BREAK):
                yield line
                line, room = [], columns
    if line:
        yield line


def _words(found: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces that belong together: up to the next that begins with white space, or follows on a line's end."""
    word: list[Piece] = []
    for piece in found:
        parts = piece.text.expandtabs(4).replace("\n", BREAK + "\n").split("\n")
        for text in filter(None, parts):
            ends = word and (word[-1].text.endswith((BREAK, " ")) or width(word[-1].text) > len(word[-1].text))
            if word and (ends or text[0].isspace() or text == BREAK):
                yield word
                word = []
            word.append(Piece(text, piece.bits))
    if word:
        yield word


def _cut(piece: Piece, columns: int) -> Iterator[Piece]:
    """A piece that is longer than a line, in parts."""
    step = columns if width(piece.text) == len(piece.text) else columns // 2
    return (Piece(piece.text[n : n + step], piece.bits) for n in range(0, len(piece.text), step))


def page(blocks: Iterable[Block], caption: str) -> str:
    """A web page of its own, with the bits of each piece where the mouse rests."""
    scale = ", ".join(COLOURS)
    body = "\n".join(f"<h2>{html.escape(b.heading)}</h2>\n<p>{''.join(map(_span, b.pieces))}</p>" for b in blocks)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{html.escape(caption)}</title>
<style>
body {{ font: 15px/1.6 ui-monospace, monospace; max-width: 60em; margin: 2em auto; background: #fff; color: #000 }}
h1 {{ font-size: 1em }} h2 {{ font-size: 0.85em; font-weight: normal; color: #555; margin-bottom: 0 }}
p {{ white-space: pre-wrap; overflow-wrap: anywhere; margin-top: 0 }}
.scale {{ display: inline-block; width: 16em; height: 0.8em; background: linear-gradient(to right, {scale}) }}
</style>
<h1>{html.escape(caption)}</h1>
<div>0 <span class="scale"></span> {TOP:.0f} bits and more</div>
{body}
</html>
"""


def _span(piece: Piece) -> str:
    text = html.escape(piece.text).replace("\n", BREAK + "\n")
    if piece.bits is None:
        return text
    rgb = colour(piece.bits)
    ink = "; color: #fff" if is_dark(rgb) else ""
    return f'<span title="{piece.bits:.2f} bits" style="background: rgb{rgb}{ink}"><bdi>{text}</bdi></span>'
