"""What is said of a backend's name that stands for no backend: what was probably meant, and how to write it."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable
from pathlib import Path

from aigc_text.errors import BackendError, nearest, shell

#: Plugins whose source comes with this project, by the names of their backends.
PLUGINS_HERE = {"markov": "aigc-text-markov"}


def misnamed(name: str, known: Iterable[str], hidden: str = "") -> BackendError:
    """The error for a name that is no backend's.

    Args:
        name: as the user wrote it.
        known: the names there are.
        hidden: why a name might be missing, or empty.
    """
    file, _, attribute = name.partition(":")
    if file.endswith(".py") or (attribute.isidentifier() and os.path.isfile(f"{file}.py")):
        return _file(name, file if file.endswith(".py") else f"{file}.py")
    if "/" in name or name.startswith((".", "~")):
        looked = nearest(Path(name).name, _beside(Path(name)))
        hint = shell("Name a backend or an existing folder. For a model of the hub: --model {}", name)
        return BackendError(f"{name!r} is neither a backend nor an existing folder.{looked}{hidden}", hint)
    if name in PLUGINS_HERE:
        source = Path(__file__).parents[2] / "plugins" / PLUGINS_HERE[name]
        where = source if source.is_dir() else Path("plugins", PLUGINS_HERE[name])
        from_source = "" if source.is_dir() else "in the source of aigc-text: "
        return BackendError(
            f"backend {name!r} comes with the plugin {PLUGINS_HERE[name]}, which is not installed.{hidden}",
            f"Install it: {from_source}" + shell("pip install {}", where),
        )
    return BackendError(
        f"unknown backend {name!r}.{nearest(name, known)}{hidden}", f"Allowed: {', '.join(known)}, or FILE.py:CLASS"
    )


def _file(name: str, file: str) -> BackendError:
    """A file of Python where one of its classes is wanted; it is read, not run."""
    path = Path(os.path.expanduser(file))
    if not os.path.isfile(path):
        return BackendError(f"backend file {name!r}: there is no file {path}", "Write path/to/file.py:ClassName")
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return BackendError(f"{path}{line} cannot be read as Python: {error}", "Correct the file.")
    classes = [node.name for node in body if isinstance(node, ast.ClassDef)]
    if not classes:
        return BackendError(f"{path} defines no class", "Write a subclass of aigc_text.Backend there.")
    found = f"Classes in it: {', '.join(classes)}. " if len(classes) > 1 else ""
    hint = found + shell("Write: --backend {}", f"{file}:{_likeliest(body)}")
    return BackendError(f"backend {name!r} names a file, but not which class in it is the backend", hint)


def _likeliest(body: Iterable[ast.stmt]) -> str:
    """Of the classes in a file the first that derives from something called `Backend`, else the last."""
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    derived = (c for c in classes if any(ast.unparse(base).endswith("Backend") for base in c.bases))
    return next(derived, classes[-1]).name


def _beside(path: Path) -> list[str]:
    try:
        return [p.name for p in Path(os.path.expanduser(path)).parent.iterdir()]
    except OSError:
        return []
