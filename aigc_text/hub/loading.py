"""Loads what `locate` finds: models and tokenizers, looked at before and after, and where they are to be."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text import distributed
from aigc_text.errors import ModelError, OptionError, nearest, shell
from aigc_text.utils import sealed_dir

from . import locate, model_files, tokenizer_checks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}


def load_model(
    where: dict[str, Any],
    auto_class: str,
    dtype: Any,
    trust_remote_code: bool,
    changes: Mapping[str, Any] | None = None,
    model_class: type[PreTrainedModel] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads model and tokenizer; only from safetensors, and only if every tensor is there and fits.

    Args:
        auto_class: the class of transformers that finds the model's.
        model_class: the model's class itself, which then need not be registered with transformers.
        changes: fields of the model's configuration to set otherwise, such as its dropout.

    Raises:
        OptionError: a changed field that the configuration does not have.
        ModelError: what is wrong with the model, in one line.
    """
    import transformers

    where = {**where, "trust_remote_code": trust_remote_code}
    name = where["pretrained_model_name_or_path"]
    failed = tokenizer_checks.said(
        f"model {name!r} cannot be loaded", lambda error: _loading_cure(error, name, auto_class)
    )
    with failed, model_files.building(), quiet(bool(where.get("local_files_only"))):
        bounds = model_files.inspect(locate.files_of(name, where.get("revision")))
        own: Any = model_class
        loading = (own or getattr(transformers, auto_class)).from_pretrained
        described_by = own.config_class if own else transformers.AutoConfig
        config = _changed(described_by.from_pretrained(**where), changes or {})
        with model_files.bounded(bounds):
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
        given = {**where, **({"config": config} if own else {})}  # else it would look for a registered type
        tokenizer = tokenizer_checks.tried(transformers.AutoTokenizer.from_pretrained, given)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if wrong := info.get(kind):
            first = sorted(" ".join(map(str, w)) if isinstance(w, tuple) else str(w) for w in wrong)[0]
            raise ModelError(
                f"model {name!r}: {len(wrong)} tensor(s) {kind.removesuffix('_keys')}, the first is {first}",
                "The weights do not belong to its config.json; download or save the model again.",
            )
    if tokenizer.eos_token_id is None and tokenizer.bos_token_id is None and tokenizer.pad_token_id is None:
        raise ModelError(f"the tokenizer of {name!r} has no special token to begin or end a text", "Add an eos_token.")
    tokenizer_checks.check_ids(name, model, tokenizer)
    return model, tokenizer


def _changed(config: Any, changes: Mapping[str, Any]) -> Any:
    known = config.to_dict()
    for name, value in changes.items():
        if name not in known:
            kind = type(config).__name__
            raise OptionError(f"{kind} has no field {name!r}.{nearest(name, known)}", "E.g. -o attn_pdrop=0.1")
        setattr(config, name, typed(value, known[name]))
    return config


def typed(value: Any, like: Any) -> Any:
    """Text from the command line as the type of a configuration's field; what cannot be read stays text."""
    if not isinstance(value, str) or isinstance(like, str):
        return value
    try:
        return json.loads(value.lower())
    except (ValueError, RecursionError):
        return value


def load_plain_tokenizer(where: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer of a model as its `tokenizer.json` alone makes it, which needs no torch."""
    from transformers import PreTrainedTokenizerFast

    name = where["pretrained_model_name_or_path"]
    failed = tokenizer_checks.said(f"the tokenizer of {name!r} cannot be loaded", lambda _: model_files.RESTORE)
    with failed, model_files.building(), quiet(bool(where.get("local_files_only"))):
        return tokenizer_checks.tried(PreTrainedTokenizerFast.from_pretrained, where)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer alone, for a model that is yet to be made: from a folder, the cache or the hub.

    Raises:
        ModelError: there is none, or it has no token that ends a text.
    """
    from transformers import AutoTokenizer

    where = locate.locate_tokenizer(name)
    cure = "Give a folder with tokenizer.json and tokenizer_config.json, or bpe, word or char to train one."
    failed = tokenizer_checks.said(f"the tokenizer of {name!r} cannot be loaded", lambda _: cure)
    with failed, model_files.building(), quiet(bool(where.get("local_files_only"))):
        if locate.is_folder(name):
            model_files.refuse_links(locate.folder_of(name))
            if (locate.folder_of(name) / sealed_dir.MANIFEST).is_file():
                sealed_dir.verify(locate.folder_of(name))
        # Without a word of it, transformers would ask on the terminal whether to run the tokenizer's own code.
        tokenizer = tokenizer_checks.tried(AutoTokenizer.from_pretrained, {**where, "trust_remote_code": False})
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {name!r} has no eos_token to end a text", "Add one, or choose another.")
    return tokenizer


@contextmanager
def quiet(local: bool = True) -> Iterator[None]:
    """Hides the progress bars of what takes a moment; those of downloads are left as the user has them.

    The setting is the whole process's, so it is put back; call it within `model_files.building`.
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if not (local and shown):
        yield
        return
    downloads = not logging.hf_hub_utils.are_progress_bars_disabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
        if not downloads:
            logging.hf_hub_utils.disable_progress_bars()


def _loading_cure(error: BaseException, name: str, auto_class: str) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return "It runs code of its own; if you trust its author, add --trust-remote-code."
    if "safetensors" in text:
        if not os.path.isdir(name):
            return "Only safetensors are read; choose a model or a --revision that has them."
        if not any(os.path.isfile(os.path.join(name, file)) for file in PICKLED):
            return _without_weights(Path(name))
        folder = json.dumps(name)
        code = f"from transformers import {auto_class} as M; M.from_pretrained({folder}).save_pretrained({folder})"
        return shell("Only safetensors are read; if you trust these weights, convert them: python -c {}", code)
    return "Check the folder or the id; --debug shows where it failed."


PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")  # weights that transformers can convert


def _without_weights(folder: Path) -> str:
    """What to do with a folder that has a configuration and none of the weights that can be read or converted."""
    if (folder / "checkpoints").is_dir():
        return shell("The run has not finished; go on with: aigc-text train --resume --output {}", folder)
    others = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack"))
    if others:
        return f"{others[0]} cannot be read here; get the model as safetensors."
    return "Put its model.safetensors beside config.json, or download or save the whole model again."


def choose_device(device: str | None) -> str:
    """The device asked for, or the best there is.

    Raises:
        OptionError: torch does not know the device, or the machine has none of it.
    """
    import torch

    if device is None:
        if distributed.divide_model():  # it may be larger than a device; FSDP moves the parts
            return "cpu"
        if torch.cuda.is_available():
            own = distributed.local_rank() % torch.cuda.device_count()
            return f"cuda:{own}" if distributed.world() > 1 else "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()  # a value must come back: "meta" takes tensors and has none
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0][:100]
        raise OptionError(f"device {device!r} cannot be used: {reason}", f"Allowed: {', '.join(devices())}") from None
    return device


def has_accelerator() -> bool:
    """Whether training would run on something other than the CPU."""
    import torch

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1", "yes")
    return torch.accelerator.is_available() and not on_cpu


def devices() -> list[str]:
    """The devices that this machine has, as `choose_device` takes them."""
    import torch

    several = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    others = ["cuda", *several] if several else []
    return ["cpu", *others, *(["mps"] if torch.backends.mps.is_available() else [])]


def choose_dtype(dtype: str | None, device: str) -> Any:
    """The torch dtype of a name; without one fp32 on the CPU (exact) and bf16 on CUDA where it is native."""
    import torch

    if dtype is None:
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in DTYPES:
        raise OptionError(f"unknown dtype {dtype!r}.{nearest(dtype, DTYPES)}", "Allowed: fp32, bf16, fp16")
    return getattr(torch, DTYPES[dtype])
