"""`load` and `generate`: from names and paths to models and texts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aigc_text.backends.class_checks import check_loaded
from aigc_text.backends.hf import model_checks
from aigc_text.backends.registry import check_name, get_backend, list_backends
from aigc_text.errors import BackendError, OptionError, nearest, shell
from aigc_text.hub import loading, locate
from aigc_text.utils.file_descriptors import to_standard_error

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from aigc_text.backends.base import Backend
    from aigc_text.backends.hf.backend import TransformersBackend
    from aigc_text.options.generation import GenerationOptions
    from aigc_text.outputs import Completion

DEFAULT_BACKEND = "gpt2"


def load(backend: str | None = None, model: str | None = None, **kwargs: Any) -> Backend:
    """Loads a model behind its backend.

    Args:
        backend: a backend's name; or the folder of a model or run, which says itself what its backend is.
        model: a hub id, folder or file for the backend; `None` is its default model.
        kwargs: for the backend's `from_pretrained`: `device`, `dtype`, `revision`, ….

    Returns:
        The loaded backend; its `generate` yields completions.

    Raises:
        BackendError: unknown or broken backend, or one that is not the model's.
        ModelError: no such model.
    """
    check_names(backend, model, kwargs.get("revision"))
    name, cls, model = find(backend, model)
    _refuse_unknown(cls, name, kwargs)
    model_checks.check_class(cls, name)
    with to_standard_error():  # what a plugin prints while it loads is no text of its model
        loaded = cls.from_pretrained(model, **kwargs)
    check_loaded(loaded, name)
    loaded.name = name
    loaded.origin = {"backend": name, "model": model, **{k: v for k, v in kwargs.items() if v is not None}}
    return loaded


def load_to_train(backend: str | None, model: str | None = None, *, adapter: bool, **kwargs: Any) -> Backend:
    """Loads a model as `load` does, but on a GPU in fp32, where that would round its weights to bf16.

    Training updates weights in fp32. What stays frozen beside an adapter keeps the type that `load` chooses.

    Args:
        backend: as for `load`.
        model: as for `load`.
        adapter: whether an adapter is trained, not the model's own weights.
        kwargs: as for `load`.
    """
    cls = find(backend, model)[1]
    takes_type = "dtype" in inspect.signature(cls.from_pretrained).parameters
    if not adapter and takes_type and loading.choose_device(kwargs.get("device")) != "cpu":
        kwargs = {"dtype": "fp32", **kwargs}
    return load(backend, model, **kwargs)


def find(backend: str | None, model: str | None) -> tuple[str, type[Backend], str | None]:
    """The name and class of the backend that `load` would take, and the model that it would load.

    Raises:
        BackendError: unknown or broken backend, or one that is not the model's.
    """
    if model is None and backend is not None and _is_model(backend):
        backend, model = None, backend
    own = locate.backend_of(model) if model is not None else None
    if own is not None and ".py:" in own:
        if backend is None:  # a folder from elsewhere must not choose which code is run
            raise BackendError(
                f"the model in {model} names a file of code as its backend: {own!r}",
                shell("If you trust that file: --backend {}", own),
            )
        own = None  # a path is no lasting name, so whoever was named by the user gets the model
    if backend is not None and own is not None and own != backend:
        raise BackendError(
            f"the model in {model} belongs to backend {own!r}, not {backend!r}",
            shell("Leave --backend out, or write --backend {}", own),
        )
    name = backend if backend is not None else own or DEFAULT_BACKEND
    return name, get_backend(name), model


def check_names(backend: str | None, model: str | None, revision: str | None = None) -> None:
    """Refuses names that stand for nothing. Imports nothing heavy, so that a typing error is reported at once.

    Raises:
        BackendError: no such backend.
        ModelError: no such folder, or no such model of the hub within reach.
    """
    if model is None and backend is not None and _is_model(backend):
        backend, model = None, backend
    if backend is not None:
        check_name(backend, list_backends())
    elif model is not None:
        locate.locate(model, revision)


def _is_model(name: str) -> bool:
    """Whether a folder stands where a backend's name may; a name is a name even where a folder is called so."""
    return ".py:" not in name and not name.endswith(".py") and name not in list_backends() and locate.is_folder(name)


def _refuse_unknown(cls: type[Backend], name: str, kwargs: dict[str, Any]) -> None:
    """A loading option that a backend does not have is an error, never ignored."""
    parameters = inspect.signature(cls.from_pretrained).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key in kwargs:
        if key not in known and not open_ended:
            allowed = f"Allowed: {', '.join(known)}" if known else "It has none."
            raise OptionError(f"backend {name!r} has no loading option {key!r}.{nearest(key, known)}", allowed)


def from_scratch(
    backend: str,
    texts: Iterable[str],
    *,
    tokenizer: str | PreTrainedTokenizerBase = "bpe",
    vocab_size: int | None = None,
    infilling: bool = False,
    seed: int = 0,
    **config: Any,
) -> TransformersBackend:
    """A backend with random weights, and a tokenizer trained on `texts` or given, ready for `train`.

    Args:
        backend: a backend's name.
        texts: what a tokenizer learns from.
        tokenizer: `bpe`, `word` or `char` to train one; or a folder, a hub id or a tokenizer of transformers.
        vocab_size: entries of a trained vocabulary; by default 4096 of BPE, and all the words or characters.
        infilling: give it the tokens to fill in the middle, for `augment=("fim=0.5",)` and the option `suffix`.
        seed: of the weights.
        config: fields of the model's configuration, such as `n_layer=6`.

    Raises:
        BackendError: the backend cannot be trained.
        OptionError: no such field of the configuration, sizes that do not fit, or a size for a given tokenizer.
        ModelError: no such tokenizer.
    """
    from aigc_text.backends.hf.backend import TransformersBackend

    cls = get_backend(backend)
    if not (issubclass(cls, TransformersBackend) and cls.capabilities.training):
        raise BackendError(f"backend {backend!r} cannot be trained by the trainer", "See: aigc-text backends")
    from aigc_text.utils.isolation import seeded

    model_checks.check_class(cls, backend)
    chosen = _tokenizer(tokenizer, texts, vocab_size, infilling)
    with seeded(seed):
        made = cls.from_scratch(chosen, **config)
    made.name = backend
    kind = tokenizer if isinstance(tokenizer, str) else "given"
    made.origin = {
        "backend": backend,
        "from_scratch": True,
        "tokenizer": kind,
        "vocab_size": vocab_size,
        "config": config,
    }
    return made


def _tokenizer(
    wanted: str | PreTrainedTokenizerBase, texts: Iterable[str], vocab_size: int | None, infilling: bool
) -> PreTrainedTokenizerBase:
    from aigc_text.data.tokenizer_training import INFILLING, KINDS, infilling_tokens, train

    special = INFILLING[0] if infilling else ()
    if wanted in KINDS:
        return train(str(wanted), texts, vocab_size, special=special)
    if vocab_size is not None:
        raise OptionError(
            f"vocab_size {vocab_size} is for a tokenizer that is trained; the given one has its own",
            shell("Leave --vocab-size out, or train one: --tokenizer {}", KINDS[0]),
        )
    given = loading.load_tokenizer(wanted) if isinstance(wanted, str) else wanted
    if infilling and infilling_tokens(given) is None:
        given.add_special_tokens({"extra_special_tokens": list(special)}, replace_extra_special_tokens=False)
    return given


def generate(
    prompts: str | Iterable[str],
    backend: str | None = None,
    model: str | None = None,
    options: GenerationOptions | None = None,
    **overrides: Any,
) -> list[Completion]:
    """Loads a model, generates, and returns all completions in the order of the prompts.

    Args:
        prompts: one prompt or several; an empty one asks for unconditional generation.
        backend: a backend's name, or a model's folder.
        model: as in `load`.
        options: how to generate.
        overrides: single fields of the backend's options, such as `max_new_tokens=40, seed=1`.

    Raises:
        UserError: see `load` and `Backend.generate`.
    """
    loaded = load(backend, model)
    return list(loaded.generate([prompts] if isinstance(prompts, str) else prompts, options, **overrides))
