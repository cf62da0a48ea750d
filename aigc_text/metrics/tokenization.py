"""How a text becomes tokens: all metrics over tokens ask here, so that their figures speak of the same ones."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from aigc_text.errors import MetricError, nearest

if TYPE_CHECKING:
    from nltk.tokenize.destructive import NLTKWordTokenizer

TOKENIZE = ("words", "chars", "split")

# In a text of this form nltk's dozens of substitutions do three things only: they part "'s", commas and the last full
# stop from their words. That takes a fifteenth of their time. Single spaces: a text of another form is noticed at once.
_WORD = r"[a-z0-9]+(?:-[a-z0-9]+)*(?:'s)?"
_SIMPLE = re.compile(rf"(?:(?:{_WORD},?|,) )*(?:{_WORD}[,.]?|[,.])? ?")
_CONTRACTED = re.compile("cannot|gimme|gonna|gotta|lemme|wanna")  # nltk makes two tokens of each


def words(text: str, tokenize: str = "words") -> list[str]:
    """The tokens of a text.

    Args:
        text: any text.
        tokenize: `words`: those of nltk's `NLTKWordTokenizer` in the lower-cased text, as Texygen has them;
            `chars`: single characters without white space, for Chinese; `split`: what stands between white space.

    Raises:
        MetricError: `tokenize` is none of these.
    """
    if tokenize == "words":
        text = text.lower()
        if _SIMPLE.fullmatch(text) and not _CONTRACTED.search(text):
            return text.replace("'s", " 's").replace(",", " ,").replace(".", " .").split()
        return _nltk().tokenize(text)
    if tokenize == "chars":
        return [c for c in text if not c.isspace()]
    if tokenize == "split":
        return text.split()
    raise MetricError(
        f"tokenize is {tokenize!r}", f"It is one of {', '.join(TOKENIZE)}.{nearest(str(tokenize), TOKENIZE)}"
    )


def all_words(texts: Iterable[str], tokenize: str = "words") -> list[list[str]]:
    """`words` of each text."""
    return [words(text, tokenize) for text in texts]


@lru_cache(maxsize=1)
def _nltk() -> NLTKWordTokenizer:
    from nltk.tokenize.destructive import NLTKWordTokenizer  # a third of a second, and most texts do not need it

    return NLTKWordTokenizer()
