"""What a model class of one's own needs to be trained, saved, loaded, generated from and scored.

Everything is tried before training begins, and all that is missing is named in one error. Classes of transformers and
of this package are known to have it and are not tried.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text.errors import BackendError, described, one_line, shell
from aigc_text.utils import isolation

if TYPE_CHECKING:
    import torch

    from .backend import TransformersBackend

KNOWN = ("transformers.", "transformers_modules.", "aigc_text.")  # modules whose classes are not tried
LARGEST_SAVED = 100_000_000  # parameters of a model that is saved and loaded to try it: 400 MB in fp32
SLACK = 1e-3  # standard deviations by which scores may differ where only the order of sums does


def check_class(backend: Any, name: str) -> None:
    """Refuses a backend's `model_class` that no model can be made of or loaded with, before either is tried.

    Args:
        backend: its class; of one without a `model_class` nothing is asked.
        name: what the backend is picked by.

    Raises:
        BackendError: naming all that is missing.
    """
    model = getattr(backend, "model_class", None)
    if model is not None and not getattr(model, "__module__", "").startswith(KNOWN):
        _refuse(name, _class_faults(backend, model))


def check_model(backend: TransformersBackend) -> None:
    """Refuses a model that could not go all the way from training to scoring.

    It is run on a few tokens; up to `LARGEST_SAVED` parameters it is also saved in a temporary folder and loaded.

    Raises:
        BackendError: naming all that is missing.
    """
    if backend.converted is not None or type(backend.model).__module__.startswith(KNOWN):
        return
    name = backend.name or type(backend).__name__
    faults = _class_faults(type(backend), type(backend.model))
    if not hasattr(backend.model, "config"):  # no model of transformers, so nothing else can be tried
        _refuse(name, faults)
    with isolation.evaluation(backend.model):
        broken = _forward_faults(backend)
        small = sum(p.numel() for p in backend.model.parameters()) <= LARGEST_SAVED
        found = [*_tokenizer_faults(backend), *(broken or _use_faults(backend))]
        if small and backend.adapter is None and not (faults or broken):
            found += _saving_faults(backend)
    _refuse(name, [*faults, *found])


def _refuse(name: str, faults: list[str]) -> None:
    if faults:
        raise BackendError(
            f"the model of backend {name!r} is not complete: {'; '.join(faults)}",
            "See 'What a model class needs' in docs/plugins.md. " + shell("Try it: aigc-text backends check {}", name),
        )


# Before there is a model


def _class_faults(backend: type[TransformersBackend], model: Any) -> list[str]:
    from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel

    faults, name = [], getattr(model, "__name__", repr(model)[:60])
    if not (isinstance(model, type) and issubclass(model, PreTrainedModel)):
        faults.append(f"{name} must derive from transformers.PreTrainedModel")
    if not _own_engine(backend) and not (isinstance(model, type) and issubclass(model, GenerationMixin)):
        faults.append(f"{name} must derive from transformers.GenerationMixin to generate")
    config = getattr(model, "config_class", None)
    if not (isinstance(config, type) and issubclass(config, PreTrainedConfig)):
        return [*faults, f"{name}.config_class must name its subclass of transformers.PreTrainedConfig"]
    return [*faults, *_config_faults(config), *_registration_faults(backend, model, config)]


def _own_engine(backend: type[TransformersBackend]) -> bool:
    """Whether something else than `generate` of transformers decodes."""
    from .backend import TransformersBackend

    own = (getattr(backend, "engine", None), getattr(backend, "make_engine", None))
    return own != (TransformersBackend.engine, TransformersBackend.make_engine)


def _config_faults(config: Any) -> Iterator[str]:
    """Whether a configuration comes back from its own file: it is written as a dictionary and made of one."""
    if not config.model_type:
        yield f"{config.__name__}.model_type must name the architecture"
    ids = {"vocab_size": 17, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    try:
        config()
        again = config.from_dict(config(**ids).to_dict())
    except Exception as error:
        yield f"{config.__name__} must have a default for every field and take {', '.join(ids)}: {described(error)}"
        return
    if lost := [name for name, value in ids.items() if getattr(again, name, None) != value]:
        yield f"{config.__name__} must keep {', '.join(lost)} when it is saved and loaded"


def _registration_faults(backend: type[TransformersBackend], model: Any, config: Any) -> Iterator[str]:
    """Whether loading finds the class: as the backend's `model_class`, or registered with transformers."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from aigc_text.hub.transformers_compat import registered_model

    if backend.model_class is not None:
        if backend.model_class is not model:
            yield f"{backend.__name__}.model_class is {backend.model_class.__name__}, its model is a {model.__name__}"
        return
    known = config.model_type in CONFIG_MAPPING and CONFIG_MAPPING[config.model_type] is config
    if not known or registered_model(backend.auto_class, config) is not model:
        yield (
            f"{backend.__name__}.model_class must be {model.__name__}, or both classes registered: "
            f"AutoConfig.register({config.model_type!r}, {config.__name__}) and "
            f"{backend.auto_class}.register({config.__name__}, {model.__name__})"
        )


# On a few tokens


def _tokenizer_faults(backend: TransformersBackend) -> Iterator[str]:
    if backend.tokenizer.eos_token_id is None:
        yield "the tokenizer must have a token that ends a text (eos_token)"


def _forward_faults(backend: TransformersBackend) -> list[str]:
    """Whether `forward` can be called and gives scores of the right shape; without that nothing else can be tried."""
    import torch

    forward, size = f"{type(backend.model).__name__}.forward", len(backend.tokenizer)
    ids = _ids(size)
    try:
        with torch.no_grad():
            shape = tuple(_scores(backend, ids).shape)
    except Exception as error:
        said = described(error)
        return [f"{forward} must take input_ids and attention_mask and return an object with .logits: {said}"]
    if len(shape) != 3 or shape[:2] != ids.shape or shape[2] < size:
        return [f"{forward} must score all {size} tokens at each place: its logits are {shape}, not (2, 5, {size})"]
    return []


def _use_faults(backend: TransformersBackend) -> Iterator[str]:
    """Whether the scores serve for training, scoring and generation."""
    import torch

    if backend.auto_class == "AutoModelForCausalLM":
        forward, ids = f"{type(backend.model).__name__}.forward", _ids(len(backend.tokenizer))
        with torch.enable_grad():
            if not _scores(backend, ids).requires_grad:
                yield f"{forward} must give logits that a gradient passes through"
        with torch.no_grad():
            yield from _order_faults(backend, forward, ids)
    if backend.model.can_generate() or _own_engine(type(backend)):
        yield from _generation_faults(backend)


def _ids(size: int) -> torch.Tensor:
    """Two short rows (2, 5) of the tokens there are."""
    import torch

    return torch.arange(10).reshape(2, 5) % size


def _order_faults(backend: TransformersBackend, forward: str, ids: torch.Tensor) -> Iterator[str]:
    """Whether scores depend on the tokens before them and on nothing else; ids (2, 5)."""
    import torch

    scores, other = _scores(backend, ids), ids.clone()
    other[:, -1] = (other[:, -1] + 1) % len(backend.tokenizer)
    slack = SLACK * float(scores.std())  # the scores of a new model are small
    if not torch.allclose(_scores(backend, other)[:, :-1], scores[:, :-1], atol=slack):
        yield f"{forward} must score a token from those before it alone: its logits change with a later token"
    padded = torch.cat([ids.new_full((2, 3), backend.pad()), ids], 1)
    mask = torch.cat([ids.new_zeros(2, 3), torch.ones_like(ids)], 1)
    if not torch.allclose(_scores(backend, padded, mask)[:, 3:], scores, atol=slack):
        yield f"{forward} must pass over the padding before a text, which attention_mask marks with 0"


def _scores(backend: TransformersBackend, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Logits (B, T, V) on the CPU of ids (B, T), called as training and generation call the model."""
    import inspect

    model = backend.model
    mask = ids.new_ones(ids.shape) if mask is None else mask
    more: dict[str, Any] = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
    if "position_ids" in inspect.signature(model.forward).parameters:
        more["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0).to(model.device)
    inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    logits: torch.Tensor = model(**inputs, **more).logits
    return logits.float().cpu()


# Generated, saved and loaded


def _generation_faults(backend: TransformersBackend) -> Iterator[str]:
    """Whether step by step the model takes the tokens that it scores highest when it reads the text as a whole."""
    import torch

    from aigc_text.generation.engine import Row
    from aigc_text.hub.transformers_compat import CACHE

    name, start = type(backend.model).__name__, [0, 1 % len(backend.tokenizer), 0]
    try:
        engine = backend.engine()
        config = engine.config(do_sample=False, max_new_tokens=4, pad_token_id=backend.pad())
        made = [event.token for events in engine.decode([Row(start, None, 4)], config) for event in events]
    except Exception as error:
        yield f"{name} must generate, and fails: {described(error)}{_hint(backend, error)}"
        return
    if backend.auto_class != "AutoModelForCausalLM" or not engine.prompt_counts():
        return
    with torch.no_grad():
        scores = _scores(backend, torch.tensor([[*start, *made]]))[0, len(start) - 1 : -1]  # (4, V)
    taken = scores.gather(1, torch.tensor(made)[:, None])[:, 0]
    if bool((scores.amax(1) - taken > SLACK * scores.std()).any()):
        yield f"{name} must give the same logits with its cache as without; a forward without `{CACHE}` has none"


def _hint(backend: TransformersBackend, error: BaseException) -> str:
    """What mends the two failures that are met most."""
    if "num_hidden_layers" in str(error):
        return f" (the cache needs {type(backend.model.config).__name__}.num_hidden_layers)"
    return " (end the parameters of forward with **_)" if "unexpected keyword argument" in str(error) else ""


def _saving_faults(backend: TransformersBackend) -> Iterator[str]:
    """Whether the saved model is the same when it is loaded."""
    import torch

    name, ids = type(backend.model).__name__, _ids(len(backend.tokenizer))
    with tempfile.TemporaryDirectory() as scratch:
        folder, done = Path(scratch) / "model", "saved"
        try:
            backend.save_pretrained(folder)
            done = "loaded and run again"
            again = type(backend).from_pretrained(str(folder))
            with torch.no_grad(), isolation.evaluation(again.model):
                before, after = _scores(backend, ids), _scores(again, ids)
        except Exception as error:
            yield f"{name} cannot be {done}: {one_line(getattr(error, 'message', '') or described(error))}"
            return
    slack = (SLACK if again.precision == backend.precision else 0.1) * float(before.std())
    if backend.auto_class == "AutoModelForCausalLM" and not torch.allclose(before, after, atol=slack):
        yield f"{name} must give the same logits when it has been saved and loaded: keep its numbers in parameters"
