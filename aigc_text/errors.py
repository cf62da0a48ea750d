"""The user's errors: what failed, the user's value, what is allowed, and the command that cures it.

Every error that a user can cause is a `UserError`. The command line prints its three lines and exits with
code 2; from Python it is an ordinary exception whose text is the same. Anything else that escapes is ours.
"""

from __future__ import annotations

import difflib
import os
import re
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
