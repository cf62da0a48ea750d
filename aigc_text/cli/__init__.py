"""The command line: thin commands over the public Python API. Imports nothing heavy until a command runs."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import io
import os
import signal
import sys
import traceback
import warnings
from typing import Any, TextIO, cast

import click

from aigc_text import distributed
from aigc_text.backends import plugin_import
from aigc_text.errors import UserError, described, nearest, one_line
from aigc_text.training import interrupts
from aigc_text.training.interrupts import Terminated
from aigc_text.utils import file_descriptors, output_file

from .mistakes import explained, users_error
from .terminal import ReaderGone, error_stream, guarded, visible

COMMANDS = {
    "backends": "List, show and check backends.",
    "copies": "What texts have copied from a file.",
    "data": "Small data sets that ship with the package.",
    "evaluate": "Measure models against real texts and each other.",
    "evaluate-code": "How many programming problems a model solves: pass@k in a sandbox.",
    "generate": "Generate texts from prompts.",
    "latents": "Latent vectors of texts, differences of groups, and pictures of them.",
    "plugin": "Write the package of a new backend.",
    "report": "One web page of runs: curves, figures, samples side by side, a blind comparison.",
    "score": "How likely texts are under a model, and where it is surprised.",
    "train": "Fine-tune a model, or train one from scratch.",
}
MAPPED = 16 << 20  # bytes from which memory comes from the system by itself
INTERRUPTED = tuple(128 + number for number in interrupts.SIGNALS)  # exit codes
SAVING = ("train",)  # what an interrupt waits for
_exit_codes: list[int] = []  # with which the process ends at once, when all that was to be called then was
TOGETHER = ("generate", "train")  # what the processes of a launcher do together, so that one of them speaks for all


class _Lazy(click.Group):
    """Imports a command's file when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        if name not in COMMANDS:
            ctx.fail(f"unknown command {name!r}.{nearest(name, COMMANDS)}")
        module = importlib.import_module(f".{name.replace('-', '_')}", __name__)
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click would exit with code 1 and no message
            raise _Broken from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # from the table, so that --help imports no command
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aigc-text")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Generate text and code with whatever model fits."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def script() -> None:
    """The console script: `main` as a whole process."""
    output_file.command_started = output_file.process_started()
    _keep_large_blocks_apart()
    atexit.register(_end_at_once)  # the first to be registered is called last
    try:
        main()
    except SystemExit as end:
        if end.code in INTERRUPTED:  # taking torch apart would go on for a second and more
            _exit_codes.append(end.code)
        raise


def _end_at_once() -> None:
    """Ends the process without the interpreter's own end, if a code for that is noted."""
    if _exit_codes:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(_exit_codes[0])


def main() -> None:
    """Runs a command and turns what it raises into a message and an exit code, which `SystemExit` carries."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    _quiet_libraries()
    _open_closed()
    _set_encodings()
    in_time: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if not _together():
        # SIGTERM ends like an interrupt, through the same cleaning up, with its own exit code. Several processes are
        # ended by their launcher, and one that waits for another outside of Python would not hear of it.
        signal.signal(signal.SIGTERM, _terminated)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else it is under nohup
            signal.signal(signal.SIGHUP, _terminated)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, in the background
            signal.signal(signal.SIGINT, _interrupted)
        if not any(word in SAVING for word in sys.argv[1:2]):
            in_time = interrupts.ended_in_time()
    elif not distributed.is_main():
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        with in_time, guarded(), file_descriptors.owned():
            code = _run(debug)
            sys.stdout.flush()
    except ReaderGone:
        # The reader has gone; what is still buffered must not raise again while Python shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    if code == 0 and distributed.leave():
        # Threads of the connection outlive it a little, and one that asks for the interpreter while that ends aborts a
        # process whose work is done ("terminate called without an active exception"). So it ends without that.
        _exit_codes.append(0)
    sys.exit(code)


def _together() -> bool:
    return distributed.world() > 1 and any(word in TOGETHER for word in sys.argv[1:2])


def _run(debug: bool) -> int:
    try:
        result = cli.main(prog_name="aigc-text", standalone_mode=False)
    except UserError as error:
        if isinstance(error.__cause__, (Terminated, _Interrupted)):  # while a plugin was imported
            return _ended(error.__cause__)
        return _fail(error.message, error.cure, 2, debug)
    except click.UsageError as error:
        return _fail(*explained(error, sys.argv[1:]), 2, debug)
    except click.ClickException as error:
        return _fail(one_line(error.format_message()), "", 2, debug)
    except (KeyboardInterrupt, click.Abort, Terminated) as error:
        return _ended(error)
    except BaseException as error:
        if isinstance(error, _Broken):
            error = cast(Exception, error.__cause__)
        if told := plugin_import.failed_plugin(error) or users_error(error):
            return _fail(told.message, told.cure, 2, debug)
        if not isinstance(error, Exception):
            raise
        return _fail(f"internal error: {described(error, 300)}", "Run it again with --debug and report it.", 1, debug)
    return result if isinstance(result, int) else 0


def _fail(message: str, cure: str, code: int, debug: bool) -> int:
    stream = sys.stderr
    if _together():
        message, stream = distributed.last_word(message), error_stream(cast(TextIO, sys.__stderr__))
    if debug:
        stream.write(traceback.format_exc())  # whole, so that a secret in it is seen whole
    click.echo(f"Error: {visible(message)}", file=stream)
    if cure:
        click.echo(visible(cure), file=stream)
    return code


def _ended(error: BaseException) -> int:
    terminated = isinstance(error, Terminated)
    click.echo("Terminated" if terminated else "Interrupted", err=True)
    return 128 + (error.args[0] if terminated and error.args else signal.SIGTERM if terminated else signal.SIGINT)


class _Interrupted(KeyboardInterrupt):
    """By the user; a plugin may also raise a KeyboardInterrupt."""


class _Broken(Exception):
    """A pipe that has broken, but not our own standard output."""


def _terminated(number: int, *_: Any) -> None:
    raise Terminated(number)


def _interrupted(*_: Any) -> None:
    raise _Interrupted


def _open_closed() -> None:
    """Opens nothing in place of standard streams that are closed: Python has `None` for them, where all would write."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their numbers, to get those
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _set_encodings() -> None:
    """UTF-8 for files and pipes whatever the locale; a terminal that cannot show a character gets a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


def _keep_large_blocks_apart() -> None:
    """Has large blocks of memory come from the system by themselves, and go back to it at once.

    glibc would raise its threshold with the largest block, and keep what is freed in pieces that fit no other batch.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(-3, MAPPED)  # M_MMAP_THRESHOLD


def _quiet_libraries() -> None:
    """Our notices are the user's; the libraries' are for their developers, unless the user asked for them."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
    ours = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")  # not aigc_text_markov.py beside it
    if os.path.abspath(filename).startswith(ours):
        click.echo(f"Warning: {visible(' '.join(str(message).split()))}", err=True)
