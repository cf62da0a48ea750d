"""Writes the package of a new plugin: the files of `plugin_template` under the plugin's own names."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import unicodedata
from importlib.metadata import entry_points
from pathlib import Path

from aigc_text.errors import BackendError, OptionError, shell

from .builtin import GROUP
from .registry import list_backends

TEMPLATES = Path(__file__).parent / "plugin_template"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
IMPORTED = ("TransformersBackend", "PreTrainedConfig", "PreTrainedModel")  # that the files import under these names


def write_plugin(name: str, folder: str | Path | None = None, *, torch: bool = False) -> Path:
    """Writes the package of a backend, complete or not at all.

    Args:
        name: of the backend: letters, digits and single underscores, such as `haiku`.
        folder: where; by default `aigc-text-NAME` here. It must be new or empty.
        torch: a torch model to train, instead of a backend that needs none.

    Returns:
        The package's folder. Its module is `aigc_text_NAME.py`.

    Raises:
        OptionError: the name is none, or the folder is not empty or cannot be written.
        BackendError: the name is taken.
    """
    _check_name(name)
    target = Path(folder) if folder is not None else Path(f"aigc-text-{name.replace('_', '-')}")
    try:
        _check_folder(name, target)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            _write(TEMPLATES / ("torch" if torch else "plain"), partial, name)
            if target.exists():
                target.rmdir()
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        cure = shell("Write it elsewhere: aigc-text plugin new {} --output FOLDER", name)
        raise OptionError(f"{target} cannot be written: {error.strerror or error}", cure) from error
    return target


def class_name(name: str) -> str:
    """The class of a backend's name: `haiku_poet` is a `HaikuPoetBackend`."""
    return f"{_camel(name)}Backend"


def _camel(name: str) -> str:
    return "".join(part[0].upper() + part[1:] for part in name.split("_"))


def _check_name(name: str) -> None:
    own = {f"{_camel(name)}{kind}" for kind in ("Backend", "Config", "Model")} if NAME.fullmatch(name) else set()
    if not own or keyword.iskeyword(name) or own & set(IMPORTED):
        why = "is no identifier of letters, digits and single underscores"
        why = (
            "is a keyword of Python"
            if keyword.iskeyword(name)
            else "stands for a class of transformers"
            if own
            else why
        )
        raise OptionError(f"{name!r} {why}", shell("Try: aigc-text plugin new {}", _suggested(name)))
    module = f"aigc_text_{name}"
    if name in list_backends() or name in {point.name for point in entry_points(group=GROUP)}:
        taken = "there is a backend of that name; see: aigc-text backends"
    elif importlib.util.find_spec(module) is not None:
        taken = f"a module {module} is installed"
    else:
        return
    raise BackendError(f"the name {name!r} is taken: {taken}", shell("Try: aigc-text plugin new {}", f"my_{name}"))


def _suggested(name: str) -> str:
    """The nearest name that is allowed."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    found = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_").lower()
    return found if NAME.fullmatch(found) and found != name else f"my_{found or 'backend'}"


def _check_folder(name: str, target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if os.path.lexists(target):
        kind = "is a folder that is not empty" if target.is_dir() else "is there already, and no folder"
        cure = shell("Choose another: aigc-text plugin new {} --output {}", name, Path(f"{target}-2"))
        raise OptionError(f"{target} {kind}", cure)


def _write(template: Path, folder: Path, name: str) -> None:
    """The files of a template in a new folder."""
    for source in sorted(template.rglob("*")):
        if source.is_file() and source.suffix != ".pyc":
            path = folder / _renamed(str(source.relative_to(template)), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_renamed(source.read_text(encoding="utf-8"), name), encoding="utf-8")


def _renamed(text: str, name: str) -> str:
    """A text in which the template's names are the plugin's."""
    text = text.replace("aigc-text-template", f"aigc-text-{name.replace('_', '-')}")
    text = re.sub(r"\bTemplate(?=[A-Z])", _camel(name), text)
    return re.sub(r"(?<![A-Za-z])template\b", name, text)
