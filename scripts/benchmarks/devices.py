"""What benchmarks need to know about the machine: names, peak memory, and what its memory and matrix units reach."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def name_of(device: str) -> str:
    """The name of the GPU or CPU that `device` stands for."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()


def driver() -> str:
    """Version of the NVIDIA driver, with those of CUDA and cuDNN that torch was built for."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
        found = done.stdout.strip().splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        found = "unknown"
    return f"{found}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def synchronize(device: str) -> None:
    """Waits until the device has finished what it was given; a clock read before that shows too little."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: str) -> float:
    """Seconds that `work` takes, from an idle device to an idle device."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


class Peaks:
    """Peak device memory of pieces of work that take turns in one process.

    A piece's peak is what it keeps between its turns (weights, optimizer states), seen as the growth during its first
    turn, plus the most that it allocates above everything that is kept in any of its turns. On the CPU nothing is
    measured.

    Args:
        device: `cuda` or `cpu`.
    """

    def __init__(self, device: str) -> None:
        self.measures = device.startswith("cuda")
        self.kept: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.begin()

    def begin(self) -> None:
        """What is allocated from here on belongs to the piece of work that the next `end` names."""
        if self.measures:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()

    def end(self, name: str) -> None:
        """Attributes what was allocated since the last `begin` or `end` to a piece of work."""
        if not self.measures:
            return
        torch.cuda.synchronize()
        peak, now = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
        first = name not in self.kept
        kept = 0 if first else self.kept[name]
        self.kept.setdefault(name, max(0, now - self.start))
        self.most[name] = max(self.most.get(name, 0), kept + peak - self.start)
        self.begin()

    def gib(self) -> dict[str, float] | None:
        """GiB by name; `None` where nothing is measured."""
        return {name: round(found / 2**30, 3) for name, found in self.most.items()} if self.measures else None


def bandwidth(device: str, size: int, repeats: int = 10) -> float:
    """Bytes a second, read and written together, of copying a tensor of `size` bytes; the best of `repeats`."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * size / min(seconds(lambda: target.copy_(source), device) for _ in range(repeats))


def matmul_rate(device: str, size: int, repeats: int = 10) -> float:
    """FLOP a second of a product of two random bf16 matrices of `size` rows and columns; the best of `repeats`."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = a @ b
    return 2 * size**3 / min(seconds(lambda: torch.matmul(a, b, out=out), device) for _ in range(repeats))
