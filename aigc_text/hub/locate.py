"""Finds a pretrained model: in a folder, in the local cache, or on the hub if it answers within seconds."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aigc_text.errors import ModelError, nearest, shell
from aigc_text.utils import sealed_dir

from . import model_files

WAIT = 2.0  # seconds that a dead network may cost
BUNDLED = Path(__file__).parents[1] / "bundled"
BUNDLED_PREFIX = "bundled:"  # `bundled:gpt2-tales` names a model that ships with the package
ADAPTER_CONFIG = "adapter_config.json"  # of peft: the folder holds a LoRA adapter, not a whole model
BACKEND_KEY = "aigc_text_backend"  # in config.json: the backend that the folder belongs to


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder.

    Raises:
        ModelError: there is none, it is not a JSON object, or not the one that was saved.
    """
    path = folder / "config.json"
    if folder.is_file():
        raise ModelError(f"{folder} is a file, not a model's folder", "Give the folder that holds config.json.")
    if not folder.exists():
        raise ModelError(f"there is no folder {folder}", "Give a hub id (owner/name) or a folder with config.json.")
    if not path.is_file():  # a pipe of that name would never end
        raise ModelError(f"{folder} holds no model: no config.json", _runs_in(folder))
    if (folder / sealed_dir.MANIFEST).is_file():  # a damaged name of a backend would be no backend's
        sealed_dir.verify(folder, only="config.json")
    return model_files.read_object(path)


def _runs_in(folder: Path) -> str:
    if (folder / "checkpoints").is_dir():
        return shell("The run has not finished; go on with: aigc-text train --resume --output {}", folder)
    inside = sorted(p.parent.name for p in folder.glob("*/config.json"))
    return f"Models inside it: {', '.join(inside[:5])}" if inside else "Give the folder that holds config.json."


def folder_of(model: str) -> Path:
    """The folder that a model's name stands for, whether or not it is there.

    Raises:
        ModelError: no bundled model is called so, or the file system does not let it be looked at.
    """
    if model.startswith(BUNDLED_PREFIX):
        name = model.removeprefix(BUNDLED_PREFIX)
        if not (BUNDLED / name).is_dir():  # a plugin's is an absolute path
            known = sorted(p.name for p in BUNDLED.iterdir() if p.is_dir())
            raise ModelError(
                f"there is no bundled model {name!r}.{nearest(name, known)}", f"Bundled: {', '.join(known)}"
            )
        return BUNDLED / name
    folder = expanded(model)
    try:
        os.stat(folder / "config.json")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass  # who needs it says what is not there
    except OSError as error:
        raise ModelError(
            f"the model {model[:100]!r} cannot be looked at: {error.strerror}",
            "Give a hub id (owner/name) or a folder that you may read.",
        ) from None
    return folder


def expanded(path: str | Path) -> Path:
    """A path with the user's home for its `~`; that of an unknown user stays as it is, as in a shell."""
    return Path(os.path.expanduser(path))


def is_folder(model: str) -> bool:
    """Whether a model is meant as a folder rather than as a hub id."""
    if model.startswith(BUNDLED_PREFIX):
        return True
    return os.path.exists(model) or model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model


def backend_of(model: str) -> str | None:
    """The backend that a model folder names, or `None` where there is no folder or it does not say.

    Whether a backend can make something of the rest (a file, a folder of another form) is its own affair.
    """
    folder = folder_of(model)
    if not (is_folder(model) and (folder / "config.json").is_file()):
        return None
    name = read_config(folder).get(BACKEND_KEY)
    return name if isinstance(name, str) and name else None


def is_cached(model: str, revision: str | None) -> bool:
    """Whether a hub model's configuration and weights lie in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    def there(name: str) -> bool:
        return isinstance(try_to_load_from_cache(model, name, revision=revision), str)

    try:
        return there("config.json") and (there("model.safetensors") or there("model.safetensors.index.json"))
    except ValueError as error:  # no repository can have this name
        raise ModelError(f"{model!r} is neither a folder nor a hub id: {error}", "Write owner/name.") from None


def commit_of(model: str, revision: str | None) -> str:
    """The commit of a hub model in the cache, from the name of its snapshot; empty if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else ""


def cache_folder() -> Path:
    """`$AIGC_TEXT_CACHE`, else `aigc-text` in the user's cache folder."""
    own = os.environ.get("AIGC_TEXT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return expanded(own or os.path.join(base, "aigc-text"))


def datasets_cache() -> Path:
    """Where the package `datasets` keeps what it has prepared."""
    from huggingface_hub import constants

    return expanded(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME, "datasets"))


def is_reachable() -> bool:
    """Whether the hub (or the proxy before it) takes a connection within `WAIT` seconds; never so when offline."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        door = _door(constants.ENDPOINT)
    except ValueError:  # an address that is none
        return False
    answered = threading.Event()

    def knock() -> None:
        try:
            socket.create_connection(door, timeout=WAIT).close()
            answered.set()
        except OSError:
            pass

    # In a thread, since a dead name server can hold the look-up for much longer than the time-out.
    knocking = threading.Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(WAIT)
    return answered.is_set()


def _door(endpoint: str) -> tuple[str, int]:
    """Host and port to which a request goes first: the hub's, or those of the proxy before it, as httpx chooses it.

    Raises:
        ValueError: one of the two is no address.
    """
    from urllib.request import getproxies, proxy_bypass

    address, proxies = urlsplit(endpoint), getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(address.netloc):
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return address.hostname or "", address.port or (443 if address.scheme == "https" else 80)


def locate(model: str, revision: str | None) -> dict[str, Any]:
    """The arguments with which transformers finds a model without waiting for a dead network.

    Raises:
        ModelError: it is no folder, not in the cache, and the hub cannot be reached.
    """
    if is_folder(model):
        folder = folder_of(model)
        if not (folder / ADAPTER_CONFIG).is_file():
            read_config(folder)
        return {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
    found = {"pretrained_model_name_or_path": model, "revision": "main" if revision is None else revision}
    if is_cached(model, revision):
        return {**found, "local_files_only": True}
    if is_reachable():
        return found
    if (parent := expanded(model).parent).name and parent.is_dir():  # `runs/mine` is as good a name of a folder
        raise ModelError(
            f"there is no folder {model}, nor such a model in the cache, and the hub cannot be reached."
            f"{nearest(expanded(model).name, [p.name for p in parent.iterdir()])}",
            f"Check the folder's name. For a model of the hub, with a network: {download(model, revision)}",
        )
    raise ModelError(
        f"model {model!r} is neither a folder nor in the cache, and the hub cannot be reached",
        f"Give a folder, or leave --model out for a bundled one. With a network: {download(model, revision)}",
    )


def download(model: str, revision: str | None = None) -> str:
    """The command that brings a model of the hub into the cache."""
    of_revision = shell(" --revision {}", revision) if revision else ""
    return shell("hf download {}", model) + of_revision


def files_of(model: str, revision: str | None) -> Path:
    """The folder of a model: its own, or that of the hub's cache, where its config.json comes first."""
    if is_folder(model):
        return Path(model)
    from huggingface_hub import hf_hub_download

    return Path(
        hf_hub_download(model, "config.json", revision=revision, local_files_only=is_cached(model, revision))
    ).parent


def locate_tokenizer(name: str) -> dict[str, Any]:
    """Like `locate`, but content with the tokenizer's files."""
    from huggingface_hub import try_to_load_from_cache

    files = ("tokenizer.json", "tokenizer_config.json")
    if is_folder(name):
        folder = folder_of(name)
        if not any((folder / f).is_file() for f in files):
            raise ModelError(
                f"{name} holds no tokenizer: no {files[0]}", "Give a folder or hub id; or bpe, word, char."
            )
        return {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
    try:
        cached = any(isinstance(try_to_load_from_cache(name, f), str) for f in files)
    except ValueError as error:  # no repository can have this name
        raise ModelError(
            f"{name!r} is no tokenizer: {error}", "Write bpe, word, char, a folder or owner/name."
        ) from None
    if cached or is_reachable():
        return {"pretrained_model_name_or_path": name, "local_files_only": cached}
    raise ModelError(
        f"tokenizer {name!r} is neither a folder nor in the cache, and the hub cannot be reached",
        f"Write bpe, word or char to train one. With a network: {download(name)}",
    )
