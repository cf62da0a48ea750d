"""The processes that work together: which of them this one is, and what passes between them.

Launchers (`accelerate launch`, `torchrun`, `mpirun`) tell each process its place in the environment, so the place is
known before torch is imported. Without a launcher there is one process, and everything here does nothing.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from aigc_text.errors import TrainingError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

GRACE = 5.0  # seconds in which the main process reports an error that all of them have


def rank() -> int:
    """This process's number, from 0; 0 is the main one, which alone writes and speaks."""
    return _place("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", default=0)


def world() -> int:
    """How many processes there are, on all machines."""
    return _place("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", default=1)


def local_rank() -> int:
    """This process's number on its machine, from 0: the number of its GPU."""
    return _place("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK", default=0)


def _place(*names: str, default: int) -> int:
    """The first of these variables; they are torch's and those of three kinds of MPI, as Accelerate reads them."""
    return next((int(os.environ[n]) for n in names if os.environ.get(n, "").isdecimal()), default)


def is_main() -> bool:
    return rank() == 0


def divide_model() -> bool:
    """Whether the launcher was told to divide the model among the processes (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and world() > 1


# When one of them fails


def last_word(message: str) -> str:
    """What a process says before it ends by an error.

    What all processes find is said once, by the main one, whose end makes the launcher end the others while they
    wait here. A process that is still there after `GRACE` seconds has an error of its own.
    """
    if is_main():
        return message
    time.sleep(GRACE)
    return f"process {rank()} of {world()} on {socket.gethostname()}: {message}"


@contextmanager
def company() -> Iterator[None]:
    """Within it a connection that another process's end has broken is told as that.

    Raises:
        TrainingError: another process has gone.
    """
    try:
        yield
    except Exception as error:  # of torch's own kinds, and gloo's plain RuntimeError
        if world() == 1 or not _lost(error):
            raise
        raise TrainingError(
            "another process of this run has gone", "Its own message says why; start all again with --resume."
        ) from error


def _lost(error: Exception) -> bool:
    import torch.distributed

    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "Connection ", "NCCL"))
    )


# What passes between them, once `hardware` has brought them together


def connected() -> bool:
    """Whether there are several processes, and they can exchange tensors."""
    if world() == 1:
        return False
    import torch.distributed

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def total(values: Sequence[float], device: torch.device | str = "cpu") -> list[float]:
    """Each value summed over all processes, in double precision; the same bits in all of them.

    Args:
        device: where the processes exchange tensors: that of the model.
    """
    if not connected():
        return list(values)
    import torch

    sums = torch.tensor(list(values), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(sums)
    found: list[float] = sums.tolist()
    return found


def share(batch: T) -> tuple[T, bool]:
    """This process's rows of a batch, and whether they count.

    Every process has at least one row, since all must call the model equally often: where there are fewer rows than
    processes, the last ones take the first row too and count it for nothing.

    Args:
        batch: a tensor with its rows first, or mappings and sequences of such tensors.
    """
    if not connected():
        return batch, True
    count = rows(batch)
    if count is None:  # nothing that could be divided
        return batch, True
    counts = rank() < count
    return _cut(batch, slice(rank(), None, world()) if counts else slice(0, 1)), counts


def rows(batch: Any) -> int | None:
    """Rows of the first tensor in a batch, if there is one."""
    if hasattr(batch, "ndim"):
        return len(batch) if batch.ndim else None
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else ()
    return next((n for n in map(rows, parts) if n is not None), None)


def parts(batch: Any, count: int) -> list[Any]:
    """A batch in so many parts of rows in a row, as equal as can be; fewer where it has fewer rows."""
    total_rows = rows(batch)
    if total_rows is None or count == 1:
        return [batch]
    edges = [total_rows * n // count for n in range(count + 1)]
    return [_cut(batch, slice(a, b)) for a, b in zip(edges, edges[1:], strict=False) if a < b]


def _cut(batch: Any, which: slice) -> Any:
    return mapped(batch, lambda array: array[which] if array.ndim else array)


def mapped(batch: Any, change: Callable[[Any], Any]) -> Any:
    """A batch with its tensors and arrays changed: mappings as dicts, sequences and named tuples as they were."""
    if hasattr(batch, "ndim"):
        return change(batch)
    if isinstance(batch, Mapping):
        return {k: mapped(v, change) for k, v in batch.items()}
    if isinstance(batch, (list, tuple)):
        return getattr(batch, "_make", type(batch))(mapped(v, change) for v in batch)
    return batch


def from_main(value: T) -> T:
    """The main process's value, in all processes."""
    if not connected():
        return value
    import torch

    held = [value]
    torch.distributed.broadcast_object_list(held, src=0)
    return held[0]


def gathered(value: T) -> list[T]:
    """The values of all processes, by their number."""
    if not connected():
        return [value]
    import torch

    found: list[Any] = [None] * world()
    torch.distributed.all_gather_object(found, value)
    return found


def agree(**things: Any) -> None:
    """Compares what the processes have, so that none trains on something else unnoticed.

    Args:
        things: by the name that an error gives them; compared by their `repr`, tensors in mappings by their bytes.

    Raises:
        TrainingError: the first process that differs from the main one, and in what.
    """
    if not connected():
        return
    found = gathered({name: _digest(thing) for name, thing in things.items()})
    for n, theirs in enumerate(found):
        for name, digest in theirs.items():
            if digest != found[0][name]:
                raise TrainingError(
                    f"process {n} has other {name} than the main process",
                    "Start every process with the same command, data and model, and the same versions of packages.",
                )


def _digest(thing: Any) -> str:
    import torch

    hashed = hashlib.blake2b(digest_size=16)

    def add(part: Any) -> None:
        if torch.is_tensor(part):
            hashed.update(str((part.shape, part.dtype)).encode())
            hashed.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(part, Mapping):
            for name, value in part.items():
                add((str(name), value))
        elif isinstance(part, (list, tuple)):
            for value in part:
                add(value)
        else:
            hashed.update(repr(part).encode())

    add(thing)
    return hashed.hexdigest()


def wait() -> None:
    """Until all processes are here."""
    gathered(None)


def leave() -> bool:
    """Ends the connection in good order, before the process ends; whether there was one."""
    if "torch" not in sys.modules or not connected():
        return False
    import torch.distributed

    torch.distributed.destroy_process_group()
    return True
