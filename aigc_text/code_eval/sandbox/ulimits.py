"""Limits of the present process that are too low for another Python."""

from __future__ import annotations

from contextlib import suppress

#: What Python needs at least: the limit, how a shell sets it, in units of how many, and how much.
_NEEDED = (
    ("RLIMIT_AS", "-v", 1024, 128 << 20),
    ("RLIMIT_DATA", "-d", 1024, 64 << 20),
    ("RLIMIT_STACK", "-s", 1024, 1 << 20),
    ("RLIMIT_NOFILE", "-n", 1, 32),
    ("RLIMIT_CPU", "-t", 1, 2),
)


def too_low() -> tuple[str, str]:
    """The hard limit that may keep Python from starting, and one that will do, each as `ulimit` has it; else ""."""
    with suppress(ImportError):  # no limits on this system
        import resource

        for name, letter, unit, least in _NEEDED:
            hard = resource.getrlimit(getattr(resource, name))[1]
            if hard != resource.RLIM_INFINITY and hard < least:
                return f"ulimit -H {letter} {hard // unit}", f"ulimit -H {letter} {least // unit}"
    return "", ""
