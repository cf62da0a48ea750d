"""Locks the present process in: limits, Landlock, seccomp. Nothing undoes it, and whoever runs in it inherits it.

Read by path in a bare interpreter, so it needs the standard library only and imports nothing of the package. Sources:
the kernel's documentation of Landlock (userspace-api/landlock.rst) and of seccomp filters (seccomp_filter.rst).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterator

import seccomp
from seccomp import LockError, call


def limit(seconds: int, memory: int, file: int) -> None:
    """Sets limits that hold for this process; lower ones that hold already stay as they are.

    Args:
        seconds: of CPU time.
        memory: bytes of addresses.
        file: bytes of one file.
    """
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_FSIZE, file),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
    ):
        hard = most + 1 if what == resource.RLIMIT_CPU else most  # the first signal can be ignored, the second not
        present = resource.getrlimit(what)[1]
        if present != resource.RLIM_INFINITY:  # which is less than any other as a number
            hard = min(hard, present)
        resource.setrlimit(what, (min(most, hard), hard))


def end_with(watcher: int) -> None:
    """Has the kernel end this process when its parent ends, however that comes about."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != watcher:  # it has ended already
            os._exit(97)


def confine(scratch: str | None) -> None:
    """Takes from this process the network, other processes, and all files but Python's library and a folder.

    Args:
        scratch: a folder that may be read and written; `None` is none.

    Raises:
        LockError: the kernel lacks something that this needs.
    """
    if sys.platform != "linux" or platform.machine() not in seccomp.COLUMN:
        raise LockError(f"no sandbox is known for {sys.platform} on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    _drop_capabilities(libc)
    call(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    _landlock(libc, scratch)
    seccomp.confine(libc)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """A process of root could raise its limits again."""
    number = 126 if platform.machine() == "x86_64" else 91  # capset
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    call(libc.syscall(number, header, none), "capabilities")


# Files: Landlock

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << n for n in range(6))
MAKE_DIR, MAKE_REG, TRUNCATE = 1 << 7, 1 << 8, 1 << 14
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # by version of Landlock, how many kinds of access it knows; from 5 on 16
OWN = READ_FILE | WRITE_FILE | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | TRUNCATE


def landlock_version(libc: ctypes.CDLL) -> int:
    """Of the running kernel; 0 where there is none."""
    return max(0, libc.syscall(444, None, 0, 1))


def _landlock(libc: ctypes.CDLL, scratch: str | None) -> None:
    version = landlock_version(libc)
    if not version:
        raise LockError("Landlock is missing (Linux 5.13 has it, where it is switched on)")
    known = (1 << RIGHTS.get(version, 16)) - 1
    # Files; from version 4 TCP ports; from 6 signals to other processes and abstract sockets.
    parts = [known, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]
    attributes = struct.pack(f"{len(parts)}Q", *parts)
    rules = call(libc.syscall(444, attributes, len(attributes), 0), "Landlock")
    allowed = list(_readable())
    if scratch is not None:
        allowed.append((scratch, OWN & known))
    for path, rights in allowed:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rule = struct.pack("=Qi", rights, place)
        call(libc.syscall(445, rules, 1, rule, 0), f"Landlock, {path}")
        os.close(place)
    call(libc.syscall(446, rules, 0), "Landlock")
    os.close(rules)


def _readable() -> Iterator[tuple[str, int]]:
    """What Python reads while it runs: its library without the packages installed there, and shared libraries."""
    for folder in {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}:
        yield folder, READ_DIR
        for entry in os.scandir(folder):
            if entry.name not in ("site-packages", "dist-packages"):
                yield entry.path, READ_FILE | (READ_DIR if entry.is_dir() else 0)
    for entry in os.scandir(os.path.join(sys.base_prefix, "lib")):
        if ".so" in entry.name:
            yield os.path.realpath(entry.path), READ_FILE
    for folder in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo"):
        if os.path.isdir(folder):
            yield os.path.realpath(folder), READ_FILE | READ_DIR
    for file in ("/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/random", "/dev/zero"):
        if os.path.exists(file):
            yield os.path.realpath(file), READ_FILE
    yield "/dev/null", READ_FILE | WRITE_FILE
