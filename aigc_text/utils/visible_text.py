"""Control characters made visible, so that no text can move a cursor or hide itself."""

from __future__ import annotations

import unicodedata

_PICTURES = {**{i: 0x2400 + i for i in range(32)}, 0x7F: 0x2421}  # ␛ for escape, and so on
_KEPT = {ord("\n"), ord("\t")}


def visible(text: str) -> str:
    """Control, bidirectional and other invisible formatting characters as pictures or `<U+202E>`.

    Joiners stay, since emoji and some scripts are written with them.
    """
    return text.translate(_SHOWN)


def _harmless(c: str) -> bool:
    return ord(c) in _KEPT or c in "\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _shown(c: str) -> str:
    return chr(_PICTURES[ord(c)]) if ord(c) in _PICTURES else f"<U+{ord(c):04X}>"


class _Shown(dict[int, str]):
    """What each character is shown as, found when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = shown = chr(code) if _harmless(chr(code)) else _shown(chr(code))
        return shown


_SHOWN = _Shown()
