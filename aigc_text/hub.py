"""Finds a pretrained model: in a folder, in the local cache, or on the hub if it answers within seconds."""

from __future__ import annotations

import json
import os
import shlex
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import checkpoint, guards, preflight, processes
from .errors import ModelError, OptionError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WAIT = 2.0  # seconds that a dead network may cost
BUNDLED = Path(__file__).parent / "bundled"
BUNDLED_PREFIX = "bundled:"  # `bundled:gpt2-tales` names a model that ships with the package
DTYPES = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
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
    if (folder / checkpoint.MANIFEST).is_file():  # a damaged name of a backend would be no backend's
        checkpoint.verify(folder, only="config.json")
    return preflight.read_object(path)


def _runs_in(folder: Path) -> str:
    if (folder / "checkpoints").is_dir():
        return "This run has not finished: go on with aigc-text train --resume and the same options."
    inside = sorted(p.parent.name for p in folder.glob("*/config.json"))
    return f"Models inside it: {', '.join(inside[:5])}" if inside else "Give the folder that holds config.json."


def folder_of(model: str) -> Path:
    """The folder that a model's name stands for."""
    if model.startswith(BUNDLED_PREFIX):
        name = model.removeprefix(BUNDLED_PREFIX)
        if not (BUNDLED / name).is_dir():  # a plugin's is an absolute path
            known = sorted(p.name for p in BUNDLED.iterdir() if p.is_dir())
            raise ModelError(
                f"there is no bundled model {name!r}.{nearest(name, known)}", f"Bundled: {', '.join(known)}"
            )
        return BUNDLED / name
    return expanded(model)


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
    return name if isinstance(name, str) else None


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
    found = {"pretrained_model_name_or_path": model, "revision": revision or "main"}
    if is_cached(model, revision):
        return {**found, "local_files_only": True}
    if is_reachable():
        return found
    raise ModelError(
        f"model {model!r} is neither a folder nor in the cache, and the hub cannot be reached",
        f"With a network: hf download {model}. Or give a folder with --model, or leave --model out for a bundled one.",
    )


def load_model(
    where: dict[str, Any],
    auto_class: str,
    dtype: Any,
    trust_remote_code: bool,
    changes: Mapping[str, Any] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads model and tokenizer; only from safetensors, and only if every tensor is there and fits.

    Args:
        changes: fields of the model's configuration to set otherwise, such as its dropout.

    Raises:
        OptionError: a changed field that the configuration does not have.
        ModelError: what is wrong with the model, in one line.
    """
    import transformers

    where = {**where, "trust_remote_code": trust_remote_code}
    name = where["pretrained_model_name_or_path"]
    quiet(bool(where.get("local_files_only")))
    with guards.said(f"model {name!r} cannot be loaded", lambda error: _loading_cure(error, name, auto_class)):
        bounds = preflight.inspect(_files_of(name, where.get("revision")))
        loading: Any = getattr(transformers, auto_class).from_pretrained
        config = _changed(transformers.AutoConfig.from_pretrained(**where), changes or {})
        with preflight.bounded(bounds):
            model, info = loading(
                **where,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                # Its search for an adapter asks the hub all the same, for half a minute, unless told here too.
                adapter_kwargs={"local_files_only": bool(where.get("local_files_only"))},
                ignore_mismatched_sizes=True,  # named below, where transformers would only say that there are some
            )
        tokenizer = guards.tried(transformers.AutoTokenizer.from_pretrained, where)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if wrong := info.get(kind):
            first = sorted(" ".join(map(str, w)) if isinstance(w, tuple) else str(w) for w in wrong)[0]
            raise ModelError(
                f"model {name!r}: {len(wrong)} tensor(s) {kind.removesuffix('_keys')}, the first is {first}",
                "The weights do not belong to its config.json; download or save the model again.",
            )
    if tokenizer.eos_token_id is None and tokenizer.bos_token_id is None and tokenizer.pad_token_id is None:
        raise ModelError(f"the tokenizer of {name!r} has no special token to begin or end a text", "Add an eos_token.")
    guards.check_ids(name, model, tokenizer)
    return model, tokenizer


def _files_of(model: str, revision: str | None) -> Path:
    """The folder of a model: its own, or that of the hub's cache, where its config.json comes first."""
    if is_folder(model):
        return Path(model)
    from huggingface_hub import hf_hub_download

    return Path(
        hf_hub_download(model, "config.json", revision=revision, local_files_only=is_cached(model, revision))
    ).parent


def _changed(config: Any, changes: Mapping[str, Any]) -> Any:
    known = config.to_dict()
    for name, value in changes.items():
        if name not in known:
            kind = type(config).__name__
            raise OptionError(f"{kind} has no field {name!r}.{nearest(name, known)}", "E.g. -o attn_pdrop=0.1")
        setattr(config, name, typed(value, known[name]))
    return config


def load_plain_tokenizer(where: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer of a model as its `tokenizer.json` alone makes it, which needs no torch."""
    from transformers import PreTrainedTokenizerFast

    quiet(bool(where.get("local_files_only")))
    name = where["pretrained_model_name_or_path"]
    with guards.said(f"the tokenizer of {name!r} cannot be loaded", lambda _: preflight.RESTORE):
        return guards.tried(PreTrainedTokenizerFast.from_pretrained, where)


def typed(value: Any, like: Any) -> Any:
    """Text from the command line as the type of a configuration's field; what cannot be read stays text."""
    if not isinstance(value, str) or isinstance(like, str):
        return value
    try:
        return json.loads(value.lower())
    except (ValueError, RecursionError):
        return value


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer alone, for a model that is yet to be made: from a folder, the cache or the hub.

    Raises:
        ModelError: there is none, or it has no token that ends a text.
    """
    from transformers import AutoTokenizer

    where = _locate_tokenizer(name)
    quiet(bool(where.get("local_files_only")))
    cure = "Give a folder with tokenizer.json and tokenizer_config.json, or bpe, word or char to train one."
    with guards.said(f"the tokenizer of {name!r} cannot be loaded", lambda _: cure):
        if is_folder(name):
            preflight.refuse_links(folder_of(name))
            if (folder_of(name) / checkpoint.MANIFEST).is_file():
                checkpoint.verify(folder_of(name))
        # Without a word of it, transformers would ask on the terminal whether to run the tokenizer's own code.
        tokenizer = guards.tried(AutoTokenizer.from_pretrained, {**where, "trust_remote_code": False})
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {name!r} has no eos_token to end a text", "Add one, or choose another.")
    return tokenizer


def _locate_tokenizer(name: str) -> dict[str, Any]:
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
        f"Write bpe, word or char to train one. With a network: hf download {name}",
    )


def quiet(local: bool) -> None:
    """No bars for what takes a moment; a download keeps its own."""
    from transformers.utils import logging

    if local:
        logging.disable_progress_bar()
    else:
        logging.enable_progress_bar()


def _loading_cure(error: BaseException, name: str, auto_class: str) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return "It runs code of its own; if you trust its author, add --trust-remote-code."
    if "safetensors" in text:
        if not os.path.isdir(name):
            return "Only safetensors are read; choose a model or a --revision that has them."
        folder = json.dumps(name)
        code = f"from transformers import {auto_class} as M; M.from_pretrained({folder}).save_pretrained({folder})"
        return f"Only safetensors are read; if you trust these weights, convert them: python -c {shlex.quote(code)}"
    return "Check the folder or the id; --debug shows where it failed."


def choose_device(device: str | None) -> str:
    """The device asked for, or the best there is.

    Raises:
        OptionError: torch does not know the device, or the machine has none of it.
    """
    import torch

    if device is None:
        if processes.divide_model():  # it may be larger than a device; FSDP moves the parts
            return "cpu"
        if torch.cuda.is_available():
            own = processes.local_rank() % torch.cuda.device_count()
            return f"cuda:{own}" if processes.world() > 1 else "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()  # a value must come back: "meta" takes tensors and has none
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0][:100]
        raise OptionError(f"device {device!r} cannot be used: {reason}", "Allowed: cpu, cuda, cuda:N, mps") from None
    return device


def choose_dtype(dtype: str | None, device: str) -> Any:
    """The torch dtype of a name; without one fp32 on the CPU (exact) and bf16 on CUDA where it is native."""
    import torch

    if dtype is None:
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in DTYPES:
        raise OptionError(f"unknown dtype {dtype!r}.{nearest(dtype, DTYPES)}", "Allowed: fp32, bf16, fp16")
    return getattr(torch, DTYPES[dtype])
