"""What a process of the sandbox begins with: locks itself in, then becomes the judge or the program.

    python -I -S start.py program|judge SETTINGS

SETTINGS is JSON: limits, whether to confine, the scratch folder, the watcher's number, and those of the pipes.
"""

import json
import os
import sys
from collections.abc import Callable


def reporter(pipe: int) -> Callable[[str, str, str], None]:
    """A function that writes a verdict: the case's number (see `_Trial`), the outcome, and the reason in hexadecimal.

    It uses nothing that is looked up when it is called, so that a program that has changed the library in this
    interpreter has not changed it.
    """
    write, end = os.write, os._exit

    def report(nonce: str, outcome: str, why: str) -> None:
        line = f"{nonce} {outcome} {why.encode('utf-8', 'backslashreplace').hex()}\n".encode()
        try:
            while line:
                line = line[write(pipe, line) :]
        except OSError:  # nobody reads
            end(0)

    return report


def main() -> None:
    role, settings = sys.argv[1], json.loads(sys.argv[2])
    sandbox = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = [os.path.join(sandbox, name) for name in ("inside", "screening", "preparation")]
    sys.path[:0] = folders
    import lock
    from channel import Channel, Gone

    if role == "judge":
        import judge
        import together
    else:
        import program
    del sys.path[: len(folders)]
    sys.argv = [""]
    sys.set_int_max_str_digits(0) if hasattr(sys, "set_int_max_str_digits") else None
    if role == "judge":
        cases, report = Channel(settings["input"], settings["verdict"]), reporter(settings["verdict"])
    try:
        if settings["scratch"]:
            os.chdir(settings["scratch"])
        lock.end_with(settings["watcher"])
        lock.limit(settings["seconds"], settings["memory"], settings["file"])
        if settings["confined"]:
            lock.confine(settings["scratch"])
    except Exception as error:
        if role == "judge":
            report(cases.receive()[-1], "unlocked", f"{error}")
        os._exit(97)
    channel = Channel(settings["read"], settings["write"])
    try:
        if role == "program":
            program.Program(channel).serve()
        *case, apart, nonce = cases.receive()
        answer = ["apart", ""] if apart else together.verdict(*case)
        if answer[0] == "apart":
            if not apart:
                report(nonce, *answer)
            answer = judge.Judge(channel).verdict(*case)
        report(nonce, *answer)
    except Gone:
        pass
    os._exit(0)  # without waiting for threads that a program has started


if __name__ == "__main__":
    main()
