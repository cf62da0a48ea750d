"""What to write instead of a command line that click refuses."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

import click

from aigc_text.backends.builtin import takers
from aigc_text.errors import UserError, described, one_line, out_of_memory, shell
from aigc_text.utils.output_file import NO_ROOM

#: What other programs call our options.
SYNONYMS = {
    "--batch": "--batch-size",
    "--beams": "--num-beams",
    "--file": "--prompts",
    "--greedy": "--no-do-sample",
    "--in": "--prompts",
    "--input": "--prompts",
    "--lr": "--learning-rate",
    "--max-length": "--max-new-tokens",
    "--max-tokens": "--max-new-tokens",
    "--num-samples": "-n",
    "--out": "--output",
    "--steps": "--max-steps",
    "--train-file": "--data",
    "-m": "--model",
    "-p": "--prompt",
}
#: The option that a word is most likely meant for, where a command takes no such word.
MEANT = {
    "copies": "--source",
    "evaluate-code": "--samples",
    "generate": "--prompt",
    "latents": "--model",
    "score": "--model",
    "train": "--data",
}
SHOWN = 300  # characters of a message


def explained(error: click.UsageError, words: Sequence[str]) -> tuple[str, str]:
    """The message and the hint of a wrong command line.

    Args:
        error: what click says of it.
        words: the command line after `aigc-text`.
    """
    message = one_line(error.format_message())
    see = f"See: {error.ctx.command_path if error.ctx else 'aigc-text'} --help"
    hint = ""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        hint = _other_option(error.option_name, error.ctx, words)
    elif found := re.search(r"unexpected extra arguments? \((.*)\)$", error.format_message(), re.DOTALL):
        hint = _meant(found[1], words)
    return (message if len(message) <= SHOWN else f"{message[:SHOWN]}…"), hint or see


def users_error(error: BaseException) -> UserError | None:
    """What of other errors is the user's to change: files, limits and memory. The rest are bugs.

    Args:
        error: that nothing closer to its cause has turned into a `UserError`.
    """
    ours = isinstance(error, BrokenPipeError)  # whoever reads standard output has been told apart already
    if isinstance(error, OSError) and error.errno is not None and not ours:
        where = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        said = error.strerror or os.strerror(error.errno)
        return UserError(
            f"{where}: {said}" if where else said, _HELPS.get(error.errno, "Check the path and its rights.")
        )
    if "could not create a primitive" in described(error):  # oneDNN: mostly a tensor too large for its kernels
        return UserError(
            "oneDNN, torch's library for CPUs, has no kernel for a computation of this model",
            "If a text is very long or the batch large, make them smaller; --debug shows where it is.",
        )
    if out_of_memory(error):
        return UserError("out of memory", "Use shorter texts, a smaller --batch-size or a smaller model.")
    if type(error).__name__ == "PanicException":  # Rust: a broken tokenizer, or too long a text
        return UserError(
            f"the tokenizer fails: {described(error)}",
            "Break very long texts into lines or paragraphs (--sample-by); else its tokenizer.json may be broken.",
        )
    return None


_ROOM = "Make room, or write somewhere else (--output)."
_HELPS = {
    **dict.fromkeys(NO_ROOM, _ROOM),
    errno.EMFILE: "Allow more open files: ulimit -n 1024",
    errno.ENFILE: "Close other programs: the machine has too many files open.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "A link leads back to itself; name the file itself.",
    errno.EISDIR: "Name a file, not a folder.",
    errno.ENOMEM: "Give less at once, or close other programs.",
    errno.EAGAIN: "Raise the limit of processes and threads (ulimit -u), or close other programs.",
}


def _other_option(name: str, context: click.Context, words: Sequence[str]) -> str:
    """Under which name, or of which command, there is the option that a command does not have."""
    own = _options(context.command)
    if (same := SYNONYMS.get(name)) in own:
        return f"Write {same}"
    if owners := _owners(name):
        return f"{name} is an option of: {', '.join(f'aigc-text {owner}' for owner in owners)}"
    field = name.removeprefix("--").replace("-", "_")
    typo = difflib.get_close_matches(name, own, n=1, cutoff=0.8) and not takers(field)
    if "-o" not in own or not name.startswith("--") or typo:
        return ""
    off = field.startswith("no_")
    value = _value(name, words) or ("false" if off else "true")
    return "Options of a backend and fields of its model are set with -o: " + shell(
        "-o {}", f"{field.removeprefix('no_') if off else field}={value}"
    )


def _owners(name: str) -> list[str]:
    from . import COMMANDS, cli

    commands = {each: cli.get_command(click.Context(cli), each) for each in COMMANDS}
    return [each for each, command in commands.items() if command is not None and name in _options(command)]


def _options(command: click.Command) -> list[str]:
    return [word for p in command.params for word in (*p.opts, *p.secondary_opts) if word.startswith("-")]


def _value(name: str, words: Sequence[str]) -> str:
    """The value that was given to an option, or nothing."""
    for place, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and place + 1 < len(words) and not re.match(r"-[^\d.]", words[place + 1]):
            return words[place + 1]
    return ""


def _meant(extra: str, words: Sequence[str]) -> str:
    """The option for words that a command does not take, which click gives joined by spaces."""
    command = words[0] if words else ""
    if command not in MEANT:
        return ""
    each: list[str] = []
    for word in words[1:]:
        if " ".join([*each, word]) == extra[: len(" ".join([*each, word]))]:
            each.append(word)
    option = MEANT[command]
    if command == "generate":
        return _for_generate(extra, each)
    if command == "train":
        more = "".join(shell(" --data {}", Path(word)) for word in each[:5])
        return f"Quote a glob, or repeat --data for each file:{more}{' …' if len(each) > 5 else ''}"
    return f"If {option} is meant, write: {option} " + shell("{}", each[0] if each else extra)


def _for_generate(extra: str, each: Sequence[str]) -> str:
    if os.path.isdir(extra):
        return shell("Generate from this model with: --model {}", Path(extra))
    if os.path.isfile(extra):
        return shell("Read prompts from this file with: --prompts {}", Path(extra))
    return "Give the prompt with --prompt" + (", in quotes: " if len(each) > 1 else ": ") + shell("--prompt {}", extra)
