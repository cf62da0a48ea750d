"""A blind comparison: pairs of texts of two systems, without their names; and the key that is kept elsewhere."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from aigc_text.utils.visible_text import visible

if TYPE_CHECKING:
    from .reading import Key, Texts

KIND = "key of a blind sheet"


@dataclass(frozen=True)
class Pair:
    """Two texts for one prompt, as a rater sees them, and whose they are, which a rater does not see."""

    id: str
    prompt: str
    a: str
    b: str
    systems: tuple[str, str]


@dataclass(frozen=True)
class Sheet:
    """Pairs in the order in which they are shown. `id` is a hash of what is shown."""

    id: str
    pairs: Sequence[Pair]
    seed: int

    def payload(self) -> str:
        """What goes into the page, as JSON that no text in it can leave: see `inline_json`."""
        shown = [{"id": p.id, "prompt": visible(p.prompt), "a": visible(p.a), "b": visible(p.b)} for p in self.pairs]
        return inline_json({"id": self.id, "pairs": shown})

    def key(self) -> str:
        """The file that says whose each text is."""
        pairs = {p.id: {"a": p.systems[0], "b": p.systems[1]} for p in self.pairs}
        return json.dumps({"kind": KIND, "sheet": self.id, "seed": self.seed, "pairs": pairs}, indent=1) + "\n"


def draw(systems: Sequence[Texts], shown: Collection[str], most: int, seed: int) -> Sheet | None:
    """Draws pairs of two different systems' texts for the same prompt: their order and sides from the seed.

    Every two systems get equally many pairs, as far as they have texts in common. Pairs whose two texts are the same
    are left out.

    Args:
        systems: the texts.
        shown: texts that the page shows with their system's name, which are therefore left out.
        most: how many pairs.
        seed: of the draw.

    Returns:
        The sheet; `None` if there is no pair.
    """
    chance = random.Random(f"blind {seed}")
    texts = [each.keyed() for each in systems]
    hidden = set(shown)
    pools = []
    for one, other in combinations(range(len(systems)), 2):
        common = [k for k, t in texts[one].items() if k in texts[other] and _fit(t.text, texts[other][k].text, hidden)]
        chance.shuffle(common)
        pools.append([(one, other, key) for key in common])
    chance.shuffle(pools)
    drawn = _in_turn(pools, most)
    chance.shuffle(drawn)
    pairs = []
    for n, (one, other, key) in enumerate(drawn, 1):
        a, b = (one, other) if chance.random() < 0.5 else (other, one)
        sides = (systems[a].label, systems[b].label)
        pairs.append(Pair(f"p{n}", key[0], texts[a][key].text, texts[b][key].text, sides))
    return Sheet(_hash(pairs), pairs, seed) if pairs else None


def _fit(one: str, other: str, hidden: set[str]) -> bool:
    return one != other and one not in hidden and other not in hidden


def _in_turn(pools: Sequence[Sequence[tuple[int, int, Key]]], most: int) -> list[tuple[int, int, Key]]:
    """One of each pool after the other, until all are empty or there are enough."""
    longest = max(map(len, pools), default=0)
    return [pool[n] for n in range(longest) for pool in pools if n < len(pool)][:most]


def _hash(pairs: Iterable[Pair]) -> str:
    shown: list[Any] = [[p.id, p.prompt, p.a, p.b] for p in pairs]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


def inline_json(value: object) -> str:
    """JSON for a script element: ASCII, without the characters that could end the element or begin a tag."""
    found = json.dumps(value, ensure_ascii=True)  # U+2028 and U+2029, line ends to JavaScript, are escaped by that
    for c in "<>&":
        found = found.replace(c, f"\\u{ord(c):04x}")
    return found
