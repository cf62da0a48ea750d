"""Messages between the processes of the sandbox, over pipes. Read by path in a bare interpreter."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 256 << 20  # bytes of one message; `memory` is reached before


class Gone(BaseException):
    """The other side has ended; not an `Exception`, so that no test catches it."""


class Channel:
    """Messages over two pipes, each a line of JSON."""

    def __init__(self, read: int, write: int) -> None:
        self.reader, self.write_to = os.fdopen(read, "rb"), write

    def send(self, message: Any) -> None:
        """Raises `Gone`: nobody reads."""
        left = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while left:
                left = left[os.write(self.write_to, left) :]
        except BrokenPipeError:
            raise Gone from None

    def receive(self) -> Any:
        """Raises `Gone`: nobody writes, or what comes is no message."""
        line = self.reader.readline(MOST)
        if not line.endswith(b"\n"):
            raise Gone
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise Gone from None
