"""A backend's model and tokenizer, from wherever they are, or with random weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aigc_text.errors import BackendError, ModelError, OptionError, nearest, one_line, shell
from aigc_text.hub import ctranslate2, loading, locate, lora, model_files
from aigc_text.utils import sealed_dir

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .backend import TransformersBackend

QUANTIZE = ("int8",)

Backend_ = TypeVar("Backend_", bound="TransformersBackend")


def fresh(
    make: type[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    given: Mapping[str, Any],
    cure: str,
    **defaults: Any,
) -> PreTrainedModel:
    """A model with random weights for a tokenizer.

    Args:
        make: its class, with a `config_class`.
        tokenizer: decides the vocabulary and the end of a text.
        given: fields of its configuration; text is read as the field's type.
        cure: what an error says of the fields.
        defaults: fields that stand where `given` does not say otherwise.

    Raises:
        OptionError: a field that the configuration does not have, or sizes that do not fit each other.
    """
    import torch

    from aigc_text.utils import isolation

    kind: Any = make.config_class
    known = kind().to_dict()
    for name in given:
        if name not in known:
            raise OptionError(f"{kind.__name__} has no field {name!r}.{nearest(name, known)}", cure)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    # A text begins with the same token wherever it is read; see `TransformersBackend.prompt_tokens`.
    ids = {"bos_token_id": end if begin is None else begin, "eos_token_id": end, "pad_token_id": end}
    typed = {k: loading.typed(v, known[k]) for k, v in given.items()}
    model_files.check_counts(typed, kind.__name__, OptionError)
    values = {**ids, **defaults, **typed}
    try:
        bounded = model_files.bounded(model_files.fresh_bounds(cure))
        with isolation.seeded(0), model_files.building(), bounded, torch.device("meta"):
            make(kind(vocab_size=len(tokenizer), **values))  # without its numbers: only to see how large it would be
        with model_files.building():
            return make(kind(vocab_size=len(tokenizer), **values))
    except OptionError:
        raise
    except Exception as error:  # transformers and its helpers raise many kinds for a bad configuration
        cause = f"{type(error).__name__}: {one_line(str(error))}"[:200]
        raise OptionError(f"no such {make.__name__} can be built: {cause}", cure) from error


def width_and_heads(given: Any, default: int) -> tuple[int, int]:
    """The width of a Transformer, and how many attention heads suit it: about 64 dimensions each, an even number.

    Args:
        given: the width as the user gave it, if so; `fresh` refuses one that is not a whole number.
        default: the width otherwise.
    """
    text = str(default if given is None else given)
    width = int(text) if text.isdecimal() and 0 < int(text) < 1 << 20 else default
    allowed = [heads for heads in range(1, width // 2 + 1) if width % (2 * heads) == 0]
    return width, min(allowed, key=lambda heads: abs(heads - width / 64), default=1)


def _checked_engine(cls: type[TransformersBackend], engine: str | None, quantize: str | None) -> str:
    """The engine that is meant.

    Raises:
        OptionError: the backend has no such engine, or the engine cannot quantise.
    """
    chosen = cls.engines[0] if engine in (None, "auto") else str(engine)
    if chosen not in cls.engines:
        raise OptionError(
            f"no engine {chosen!r} for this backend.{nearest(chosen, cls.engines)}",
            f"Allowed: auto, {', '.join(cls.engines)}",
        )
    if quantize is not None and quantize not in QUANTIZE:
        raise OptionError(f"unknown quantization {quantize!r}", f"Allowed: {', '.join(QUANTIZE)}")
    if quantize is not None and chosen != "ctranslate2":
        cure = "Add --engine ctranslate2." if "ctranslate2" in cls.engines else "Leave --quantize out."
        raise OptionError(f"the engine {chosen} does not quantise, {quantize} was asked for", cure)
    return chosen


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded; see `TransformersBackend.from_pretrained`."""

    dtype: str | None = None
    device: str | None = None
    trust_remote_code: bool = False
    config: Mapping[str, Any] | None = None
    engine: str | None = None
    quantize: str | None = None


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """Refuses an argument of loading that there is not.

    Raises:
        OptionError: naming the first, and the nearest that there is.
    """
    if given:
        name, known = next(iter(given)), ("revision", *(f.name for f in fields(LoadOptions)))
        raise OptionError(f"no loading option {name!r}.{nearest(name, known)}", f"Allowed: {', '.join(known)}")


def from_scratch(
    cls: type[TransformersBackend], tokenizer: PreTrainedTokenizerBase, config: Mapping[str, Any]
) -> PreTrainedModel:
    """A model of the backend's `model_class` with random weights; see `TransformersBackend.from_scratch`."""
    if cls.model_class is None:
        raise BackendError(f"backend {cls.__name__!r} cannot start from scratch", "Start from a model with --model.")
    kind: Any = cls.model_class.config_class
    model = fresh(cls.model_class, tokenizer, config, f"-o sets the fields of {kind.__name__}.")
    if context := getattr(model.config, "max_position_embeddings", None):
        tokenizer.model_max_length = context
    return model


def load_pretrained(cls: type[Backend_], model: str | None, revision: str | None, how: LoadOptions) -> Backend_:
    """A backend of class `cls`; see `TransformersBackend.from_pretrained`."""
    load = _loader(cls, how)
    if revision is not None and (locate.is_folder(model) if model is not None else cls.bundled and not cls.hub_id):
        what = f"{model!r} is a path" if model is not None else "the model of this backend ships with the package"
        raise OptionError(f"revision {revision!r} is for models of the hub, and {what}", "Leave --revision out.")
    if model is None:
        return _default(cls, revision, load)
    loaded = load(locate.locate(model, revision))
    if model.startswith(locate.BUNDLED_PREFIX):
        loaded.source = model
    return loaded


def _loader(cls: type[Backend_], how: LoadOptions) -> Callable[[dict[str, Any]], Backend_]:
    """What loads a model from where `hub.locate` found it."""
    if _checked_engine(cls, how.engine, how.quantize) == "ctranslate2":
        if how.config:
            raise OptionError("the engine ctranslate2 takes no changed configuration", "Use --engine torch.")
        place = ctranslate2.best_device(how.device)
        if how.quantize is None and how.dtype is not None and how.dtype not in loading.DTYPES:
            loading.choose_dtype(how.dtype, place)  # says what is allowed
        kind = how.quantize or loading.DTYPES[how.dtype or "fp32"]
        return lambda where: _load_converted(cls, where, kind, place, how.trust_remote_code)
    place = loading.choose_device(how.device)
    number = loading.choose_dtype(how.dtype, place)
    return lambda where: _load(cls, where, number, place, how.trust_remote_code, how.config)


def _default(cls: type[Backend_], revision: str | None, load: Callable[[dict[str, Any]], Backend_]) -> Backend_:
    """The hub model, or the bundled one, if there is one, and a notice that says why."""
    if not cls.hub_id and not cls.bundled:
        raise ModelError(f"{cls.__name__} has no model of its own", "Give one with --model.")
    if not cls.hub_id:
        return _stand_in(cls, load)
    try:
        return load(locate.locate(cls.hub_id, revision))
    except ModelError as error:
        if not cls.bundled:
            raise
        reason = error.message
    print(
        f"Notice: this is the small bundled model {cls.bundled!r}: {reason}.\n"
        + shell("For {} itself, with a network: hf download {}", cls.hub_id, cls.hub_id),
        file=sys.stderr,
    )
    return _stand_in(cls, load)


def _stand_in(cls: type[Backend_], load: Callable[[dict[str, Any]], Backend_]) -> Backend_:
    """The model that ships with the package."""
    name = locate.BUNDLED_PREFIX + cls.bundled
    backend = load(locate.locate(name, None))
    backend.source = name
    return backend


def _load_converted(
    cls: type[Backend_], where: dict[str, Any], kind: str, device: str, trust_remote_code: bool
) -> Backend_:
    """The model as CTranslate2 has it; what torch would need is loaded when something asks for it."""
    folder = Path(where["pretrained_model_name_or_path"])
    if (folder / locate.ADAPTER_CONFIG).is_file():
        raise OptionError(
            f"{folder} is an adapter, which the engine ctranslate2 cannot load",
            "Merge it first: load(folder).save_pretrained(path, merge=True)",
        )

    def whole() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        import torch

        if (folder / sealed_dir.MANIFEST).is_file():
            sealed_dir.verify(folder)
        return loading.load_model(where, cls.auto_class, torch.float32, trust_remote_code)

    def plain() -> PreTrainedTokenizerBase:
        return loading.load_plain_tokenizer(where)

    local = folder.is_dir()
    if (folder / sealed_dir.MANIFEST).is_file():  # tokenizer and configuration are read beside what is converted
        sealed_dir.verify(folder)
    revision = sealed_dir.fingerprint(folder) if local else locate.commit_of(str(folder), where.get("revision"))
    found = ctranslate2.converted(f"{folder.name}/{revision}", kind, device, whole, plain)
    backend = cls(found, plain() if found.fast_tokenizer else loading.load_tokenizer(str(folder)))
    backend.load_torch_model = lambda: whole()[0]
    backend.source, backend.revision, backend.is_from_hub = str(folder), revision, not local
    backend.base_revision = revision
    return backend


def _load(
    cls: type[Backend_],
    where: dict[str, Any],
    dtype: Any,
    device: str,
    trust_remote_code: bool,
    config: Mapping[str, Any] | None,
) -> Backend_:
    folder = Path(where["pretrained_model_name_or_path"])
    if (folder / sealed_dir.MANIFEST).is_file():
        sealed_dir.verify(folder)
    if (folder / locate.ADAPTER_CONFIG).is_file():
        return _load_adapter(cls, folder, dtype, device, trust_remote_code, config)
    _check_family(cls, str(folder), where.get("revision"))
    model, tokenizer = loading.load_model(where, cls.auto_class, dtype, trust_remote_code, config, cls.model_class)
    try:
        moved: Any = model
        backend = cls(moved.to(device), tokenizer)
    except RuntimeError as error:
        raise OptionError(f"device {device!r} cannot be used: {error}", "Use --device cpu.") from error
    if folder.is_dir():
        backend.source = str(folder)
        backend.revision = sealed_dir.fingerprint(folder)
    else:
        backend.revision = locate.commit_of(str(where["pretrained_model_name_or_path"]), where.get("revision"))
        backend.is_from_hub = True
    backend.base_revision = backend.revision
    return backend


def _load_adapter(
    cls: type[Backend_],
    folder: Path,
    dtype: Any,
    device: str,
    trust_remote_code: bool,
    config: Mapping[str, Any] | None,
) -> Backend_:
    """The base that an adapter names, with the adapter in it."""
    backend = _load(cls, lora.base_of(folder), dtype, device, trust_remote_code, config)
    backend.adapter = lora.load(backend.model, folder, backend.base_revision)
    backend.source, backend.revision, backend.is_from_hub = str(folder), sealed_dir.fingerprint(folder), False
    return backend


def _check_family(cls: type[TransformersBackend], model: str, revision: str | None) -> None:
    """Refuses a model of another family, which would generate under this one's name.

    Raises:
        BackendError: it is one.
    """
    own: Any = cls.model_class
    wanted = own.config_class.model_type if own else cls.model_type
    if not wanted:
        return
    found = locate.read_config(locate.files_of(model, revision)).get("model_type")
    if found != wanted:
        name = wanted.removeprefix("aigc_text_")
        own = [kind for kind in ("rnn", "transformer", "vae", "gan") if found == f"aigc_text_{kind}"]
        cure = f"--backend {own[0]}" if own else "--backend gpt2, or code for programs"
        what = f"the model in {model} is of type {str(found)[:60]!r}"
        raise BackendError(f"{what}, and backend {name!r} takes its own models only", f"Choose {cure}.")
