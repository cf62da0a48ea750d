"""Which system calls a process of the sandbox may make: a filter that the kernel asks at each of them.

Read by path in a bare interpreter. Source: the kernel's documentation of seccomp filters (seccomp_filter.rst).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Iterator, Mapping


class LockError(Exception):
    """This kernel cannot lock a process in."""


def call(result: int, what: str) -> int:
    """The result of a system call that must not fail."""
    if result < 0:
        raise LockError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


COLUMN = {"x86_64": 0, "aarch64": 1}
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


def confine(libc: ctypes.CDLL) -> None:
    """Everything that is not allowed fails with EPERM, as on a system that forbids it."""
    install(libc, _rules(COLUMN[platform.machine()]))


def install(libc: ctypes.CDLL, rules: Iterable[tuple[int, int, int, int]]) -> None:
    """Makes a program for the kernel's packet filter (code, jump if true, jump if false, number) this process's own."""
    listed = list(rules)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in listed))
    program = struct.pack("HxxxxxxQ", len(listed), ctypes.addressof(code))
    call(libc.prctl(22, 2, program, 0, 0), "seccomp")


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
