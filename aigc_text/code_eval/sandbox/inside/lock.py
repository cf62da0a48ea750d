"""Locks the present process in: limits, Landlock, seccomp. Nothing undoes it, and whoever runs in it inherits it.

Read by path in a bare interpreter, so it needs the standard library only and imports nothing of the package. Sources:
the kernel's documentation of Landlock (userspace-api/landlock.rst) and of seccomp filters (seccomp_filter.rst).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping


class LockError(Exception):
    """This kernel cannot lock a process in."""


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
    if sys.platform != "linux" or platform.machine() not in _COLUMN:
        raise LockError(f"no sandbox is known for {sys.platform} on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    _drop_capabilities(libc)
    _call(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    _landlock(libc, scratch)
    _seccomp(libc)


def _call(result: int, what: str) -> int:
    if result < 0:
        raise LockError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """A process of root could raise its limits again."""
    number = 126 if platform.machine() == "x86_64" else 91  # capset
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _call(libc.syscall(number, header, none), "capabilities")


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
    rules = _call(libc.syscall(444, attributes, len(attributes), 0), "Landlock")
    allowed = list(_readable())
    if scratch is not None:
        allowed.append((scratch, OWN & known))
    for path, rights in allowed:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rule = struct.pack("=Qi", rights, place)
        _call(libc.syscall(445, rules, 1, rule, 0), f"Landlock, {path}")
        os.close(place)
    _call(libc.syscall(446, rules, 0), "Landlock")
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


# System calls: seccomp

_COLUMN = {"x86_64": 0, "aarch64": 1}
_ARCHITECTURE = (0xC000003E, 0xC00000B7)
#: What may be called at all: number on x86-64, number on AArch64 (-1: there is none).
ALLOWED: Mapping[str, tuple[int, int]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80),
    "lstat": (6, -1), "poll": (7, -1), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65),
    "writev": (20, 66), "access": (21, -1), "pipe": (22, -1), "select": (23, -1), "sched_yield": (24, 124),
    "mremap": (25, 216), "msync": (26, 227), "mincore": (27, 232), "madvise": (28, 233), "dup": (32, 23),
    "dup2": (33, -1), "pause": (34, -1), "nanosleep": (35, 101), "getitimer": (36, 102), "alarm": (37, -1),
    "setitimer": (38, 103), "getpid": (39, 172), "sendfile": (40, 71), "exit": (60, 93),
    "uname": (63, 160), "flock": (73, 32), "fsync": (74, 82), "fdatasync": (75, 83),
    "ftruncate": (77, 46), "getdents": (78, -1), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    "rename": (82, -1), "mkdir": (83, -1), "rmdir": (84, -1), "creat": (85, -1), "unlink": (87, -1),
    "readlink": (89, -1), "umask": (95, 166), "gettimeofday": (96, 169), "getrlimit": (97, 163),
    "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176),
    "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173), "getpgrp": (111, -1),
    "getgroups": (115, 158), "getresuid": (118, 148), "getresgid": (120, 150), "getpgid": (121, 155),
    "getsid": (124, 156), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132), "statfs": (137, 43), "fstatfs": (138, 44), "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126), "arch_prctl": (158, -1),
    "gettid": (186, 178), "time": (201, -1), "futex": (202, 98), "sched_getaffinity": (204, 123),
    "epoll_create": (213, -1), "getdents64": (217, 61), "set_tid_address": (218, 96), "restart_syscall": (219, 128),
    "fadvise64": (221, 223), "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "exit_group": (231, 94), "epoll_wait": (232, -1), "epoll_ctl": (233, 21),
    "mkdirat": (258, 34), "newfstatat": (262, 79), "unlinkat": (263, 35), "renameat": (264, 38),
    "readlinkat": (267, 78), "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "epoll_pwait": (281, 22), "eventfd2": (290, 19),
    "epoll_create1": (291, 20), "dup3": (292, 24), "pipe2": (293, 59), "preadv": (295, 69), "pwritev": (296, 70),
    "getcpu": (309, 168), "renameat2": (316, 276), "getrandom": (318, 278), "membarrier": (324, 283),
    "copy_file_range": (326, 285), "statx": (332, 291), "rseq": (334, 293),
    "faccessat2": (439, 439),
}  # fmt: skip
#: Allowed for some values of an argument. `OWN_PID` is this process: nobody else can be signalled.
OWN_PID = -1
CONDITIONAL: Mapping[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {
    "kill": ((62, 129), 0, (OWN_PID,)),
    "tkill": ((200, 130), 0, (OWN_PID,)),
    "tgkill": ((234, 131), 0, (OWN_PID,)),
    "prlimit64": ((302, 261), 2, (0,)),  # to ask, not to set
    "fcntl": ((72, 25), 1, (*range(8), 1030, 1032)),  # not F_SETOWN and F_SETSIG, by which a file sends signals
    "ioctl": ((16, 29), 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # nor FIOSETOWN; what `io` asks
    "close_range": ((436, 436), 2, (0, 4)),  # not CLOSE_RANGE_UNSHARE: the watcher looks at one table of descriptors
    "socketpair": ((53, 199), 0, (1,)),  # AF_UNIX, for asyncio; others would load modules of the kernel
}
SENDTO, RECVFROM = (44, 206), (45, 207)  # as `send` and `recv` without flags: read and write of a pair of sockets
#: Calls that open a file, and which argument has the flags. Landlock asks what a file is opened for, which is nothing
#: for O_ACCMODE, and before its version 3 it lets every file that may be opened be cut to nothing by O_TRUNC.
OPEN: Mapping[str, tuple[tuple[int, int], int]] = {"open": ((2, -1), 1), "openat": ((257, 56), 2)}
REFUSED_FLAGS = ((3, 3), (3 | os.O_TRUNC, os.O_TRUNC))  # (mask, value): O_ACCMODE; O_RDONLY | O_TRUNC
CLONE = (56, 220)
#: CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD: threads that share everything, as those of the C library; no processes.
THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000
CLONE3 = (435, 435)  # the C library takes `clone` where this one is said not to exist

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def _seccomp(libc: ctypes.CDLL) -> None:
    """Everything that is not allowed fails with EPERM, as on a system that forbids it."""
    install(libc, _rules(_COLUMN[platform.machine()]))


def install(libc: ctypes.CDLL, rules: Iterable[tuple[int, int, int, int]]) -> None:
    """Makes a program for the kernel's packet filter (code, jump if true, jump if false, number) this process's own."""
    listed = list(rules)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in listed))
    program = struct.pack("HxxxxxxQ", len(listed), ctypes.addressof(code))
    _call(libc.prctl(22, 2, program, 0, 0), "seccomp")


def _rules(column: int) -> Iterator[tuple[int, int, int, int]]:
    number, architecture = 0, 4  # where the call's number and the machine's kind are in what the filter reads
    yield _LOAD, 0, 0, architecture
    yield _EQUAL, 1, 0, _ARCHITECTURE[column]
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, number
    if column == 0:  # the numbers of the x32 ABI lie above this
        yield _AT_LEAST, 0, 1, 0x40000000
        yield _RETURN, 0, 0, _KILL
    for numbers in ALLOWED.values():
        if numbers[column] >= 0:
            yield _EQUAL, 0, 1, numbers[column]
            yield _RETURN, 0, 0, _ALLOW
    for numbers, argument, values in CONDITIONAL.values():
        yield from _one_of(numbers[column], argument, [os.getpid() if v == OWN_PID else v for v in values])
    for numbers, argument in OPEN.values():
        if numbers[column] >= 0:
            yield from _without(numbers[column], argument, REFUSED_FLAGS)
    yield from _zero(SENDTO[column], _argument(3), _argument(4), _argument(4) + 4)  # flags; whom to
    yield from _zero(RECVFROM[column], _argument(3))
    yield _EQUAL, 0, 5, CLONE[column]
    yield _LOAD, 0, 0, _argument(0)
    yield _AND, 0, 0, THREAD
    yield _EQUAL, 0, 1, THREAD
    yield _RETURN, 0, 0, _ALLOW
    yield _RETURN, 0, 0, _ERROR | errno.EPERM
    yield _EQUAL, 0, 1, CLONE3[column]
    yield _RETURN, 0, 0, _ERROR | errno.ENOSYS
    yield _RETURN, 0, 0, _ERROR | errno.EPERM


def _one_of(number: int, argument: int, values: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Lets a call through if an argument is one of these values, all of 32 bits."""
    yield _EQUAL, 0, len(values) + 5, number
    yield _LOAD, 0, 0, _argument(argument) + 4
    yield _EQUAL, 0, len(values) + 1, 0
    yield _LOAD, 0, 0, _argument(argument)
    for left, value in zip(range(len(values), 0, -1), values, strict=True):
        yield _EQUAL, left, 0, value
    yield _RETURN, 0, 0, _ERROR | errno.EPERM
    yield _RETURN, 0, 0, _ALLOW


def _zero(number: int, *places: int) -> Iterator[tuple[int, int, int, int]]:
    """Lets a call through if there is nothing in any of these places."""
    yield _EQUAL, 0, 2 * len(places) + 2, number
    for left, place in zip(range(len(places), 0, -1), places, strict=True):
        yield _LOAD, 0, 0, place
        yield _EQUAL, 0, 2 * left - 1, 0
    yield _RETURN, 0, 0, _ALLOW
    yield _RETURN, 0, 0, _ERROR | errno.EPERM


def _without(number: int, argument: int, refused: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int, int, int]]:
    """Lets a call through unless an argument has, under one of these masks, the value that goes with it."""
    yield _EQUAL, 0, 4 * len(refused) + 1, number
    for mask, value in refused:
        yield _LOAD, 0, 0, _argument(argument)
        yield _AND, 0, 0, mask
        yield _EQUAL, 0, 1, value
        yield _RETURN, 0, 0, _ERROR | errno.EPERM
    yield _RETURN, 0, 0, _ALLOW


def _argument(n: int) -> int:
    """Where the lower half of an argument is; both machines are little-endian."""
    return 16 + 8 * n
