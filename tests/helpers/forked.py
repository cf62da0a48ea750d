"""What the drivers that kill share: forked children, and calls that kill whoever makes them."""

import os
import signal


def dying(original, calls, at):
    """The function, but the `at`-th call to any of those that share `calls` kills the process."""

    def call(*args, **how):
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **how)

    return call


def wait(pid):
    """The status with which a child ended."""
    return os.waitpid(pid, 0)[1]
