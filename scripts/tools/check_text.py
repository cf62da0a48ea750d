"""Whether the bundled prose model's text is sensible English: `check_text.py TEXT WORDS.gz`.

TEXT is what a newcomer's first command printed (lines of pip before it are left out); WORDS the training vocabulary.
Asks for at least 40 words, 90 % of them in the vocabulary, and no run of four words three times.
"""

from __future__ import annotations

import collections
import gzip
import re
import sys
from pathlib import Path

PROMPT = "Once upon a time"


def faults(text: str, known: set[str]) -> list[str]:
    words = re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower().replace("’", "'"))
    share = sum(w in known for w in words) / max(1, len(words))
    runs = collections.Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    worst, times = runs.most_common(1)[0] if runs else ((), 0)
    return [
        *([f"only {len(words)} words"] if len(words) < 40 else []),
        *([f"only {share:.0%} of the words are known"] if share < 0.9 else []),
        *([f"{' '.join(worst)!r} comes {times} times"] if times >= 3 else []),
    ]


def main() -> None:
    printed, words = Path(sys.argv[1]).read_text(encoding="utf-8"), gzip.decompress(Path(sys.argv[2]).read_bytes())
    if PROMPT not in printed:
        sys.exit(f"the text does not begin with {PROMPT!r}: {printed[-300:]}")
    found = faults(printed[printed.index(PROMPT) :], set(words.decode().split("\n")))
    if found:
        sys.exit("not sensible English: " + "; ".join(found))
    print("The text is sensible English.")


if __name__ == "__main__":
    main()
