"""The user's errors: what failed, the user's value, what is allowed, and the command that cures it.

Every error that a user can cause is a `UserError`. The command line prints its three lines and exits with
code 2; from Python it is an ordinary exception whose text is the same. Anything else that escapes is ours.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit


class UserError(Exception):
    """Something that the user can mend.

    Args:
        message: one line: what failed, with the user's value and the place (`file:line`).
        cure: one line: what is allowed, or the command that helps. Empty if nothing can be said.
    """

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = one_line(message)
        self.cure = one_line(cure)

    def __str__(self) -> str:
        return f"{self.message}\n{self.cure}" if self.cure else self.message


class OptionError(UserError, ValueError):
    """An option that does not exist, or a value out of its range."""


class DataError(UserError, ValueError):
    """A data or prompt file that cannot be used."""


class ModelError(UserError):
    """A model that is missing, damaged, or not what was asked for."""


class DamagedError(ModelError):
    """A file whose bytes are not the ones that were saved."""


class BackendError(UserError):
    """A backend that is unknown, broken, or cannot do what was asked."""


class TrainingError(UserError):
    """A training run that cannot start, or must stop: a locked folder, a loss that is not finite."""


class GenerationError(UserError):
    """Texts that cannot be made here, or a file of them that belongs to another run."""


class MetricError(UserError, ValueError):
    """A figure that is not defined for these texts, or that something is missing for."""


def one_line(text: str) -> str:
    """Folds white space, so that a cause quoted from a library cannot break the form of a message; hides secrets."""
    return redacted(" ".join(str(text).split()))


def described(error: BaseException, length: int = 200) -> str:
    """`ValueError: what it says` on one line of at most so many characters; nothing an exception does can break it."""
    try:
        text = one_line(str(error))
    except BaseException:  # the exception is a plugin's, and so is its __str__
        text = "(its text cannot be had)"
    return f"{type(error).__name__}: {text}"[:length] if text else type(error).__name__


def shell(template: str, *values: str | Path) -> str:
    """A command for a hint: safe to paste into a shell whatever the values contain.

    Each `{}` of the template becomes one value, quoted so that it reaches the command as a single word, unchanged.
    A value that begins with a dash is kept from being read as an option.

    Args:
        template: the command as we write it, such as `hf download {}`. Only the values are quoted.
        values: a `Path` where the word names a file or folder, else text.
    """
    parts = template.split("{}")
    found = parts[0]
    for value, before, after in zip(values, parts[:-1], parts[1:], strict=True):
        found += _operand(value, before) + after
    return found


def ask_author(backend: str) -> str:
    """The hint for what a plugin does wrong and its user cannot change."""
    return shell("Tell its author, who can try it: aigc-text backends check {}", backend)


def _operand(value: str | Path, before: str) -> str:
    """A value quoted. After an option or a redirection the next word is its value; elsewhere a dash needs care."""
    text, word = str(value), before.split(" ")[-2:]
    dashed = text.startswith("-") and len(word) == 2 and not word[1] and not word[0].startswith(("-", "<", ">"))
    if text.startswith("-") and isinstance(value, Path):
        return _quoted(f"./{text}")
    return f"-- {_quoted(text)}" if dashed else _quoted(text)


_ESCAPED = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "'": r"\'", "\\": r"\\"}


def _quoted(text: str) -> str:
    """One word for a shell, on one line and of visible characters only, that `one_line` leaves as it is.

    Spaces in a row are kept apart by quotes. Characters that cannot be seen are octal bytes in `$'…'`, which bash, zsh
    and ksh read.
    """
    if all(map(_visible, text)):
        return re.sub(" (?= )", " ''", shlex.quote(text))
    return "$'" + re.sub(" (?= )", r"\\040", "".join(map(_escape, text))) + "'"


def _visible(c: str) -> bool:
    return c == " " or unicodedata.category(c)[0] not in "CZ"


def _escape(c: str) -> str:
    if c in _ESCAPED or _visible(c):
        return _ESCAPED.get(c, c)
    named = "surrogateescape" if "\udc80" <= c <= "\udcff" else "surrogatepass"  # a file's name need not be UTF-8
    return "".join(f"\\{byte:03o}" for byte in c.encode("utf-8", named))


_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")  # the form of the hub's tokens
HIDDEN = "[hidden]"


def redacted(text: str) -> str:
    """The text without the user's token of the hub and passwords of proxies: a library's error may quote a request."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    return _TOKEN.sub(HIDDEN, text)


def _secrets() -> Iterator[str]:
    """Long ones first wherever one holds another; a short one would take words out of every message."""
    found = [os.environ.get(name, "").strip() for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")]
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    found.append(_stored(os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token")))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_ENDPOINT"):
        try:
            found.append(urlsplit(os.environ.get(name, "")).password or "")
        except ValueError:
            continue
    yield from sorted({secret for secret in found if len(secret) >= 8}, key=len, reverse=True)


@cache
def _stored(path: str) -> str:
    """The token that `hf auth login` has left in a file."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError, RuntimeError):
        return ""


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'gpt2'?"` for the closest known name, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the CPU or on a device."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    # The second is of more bytes than a number can count.
    return named or any(text in str(error) for text in ("can't allocate memory", "Storage size calculation overflowed"))
