"""The contract that every backend keeps, built in or not: `check_backend` tries it and says what fails."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aigc_text.backends.base import Backend
from aigc_text.backends.hf import model_checks
from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.errors import BackendError, OptionError, UserError
from aigc_text.generation.decoding import Budget
from aigc_text.options.generation import GenerationOptions
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Completion

from .option_effects import check_options
from .option_trial import Ignored

SHARED = {"seed"}  # means the same in generation and in training
DEMANDED = {"max_new_tokens", "num_return_sequences", "stop_strings", "seed"}  # options that every backend takes


LENGTH = 12  # tokens of a test text
LETTERS = "the quick brown fox jumps over the lazy dog; def add(a, b):\n    return a + b\n"  # of a model that is drawn


class ContractError(UserError, AssertionError):
    """A backend does not do what the interface promises."""


def check_backend(
    backend: str | type[Backend] | Backend, model: str | None = None, prompts: Sequence[str] | None = None
) -> Iterator[str]:
    """Holds a backend to the contract; yields the name of each part that it kept.

    Args:
        backend: a name (as for `load`), a class, or a loaded backend.
        model: for a name or a class.
        prompts: three texts or more to try it with, if the default ones do not suit it.

    Raises:
        ContractError: naming the first part that is broken.
    """
    loaded = _loaded(backend, model)
    tried = list(prompts or ["the cat sat on", "once", "and the dog saw the"])
    if not loaded.capabilities.prompts:
        tried = [""] * len(tried)
    for check in _CHECKS:
        outcome = check(loaded, tried)
        if outcome is not False:
            yield (check.__doc__ or "").strip().rstrip(".")


def _loaded(backend: str | type[Backend] | Backend, model: str | None) -> Backend:
    from aigc_text.api import load
    from aigc_text.backends.registry import get_backend

    if isinstance(backend, Backend):
        loaded = backend
    else:
        cls = get_backend(backend) if isinstance(backend, str) else backend
        name = backend if isinstance(backend, str) else cls.__name__
        if model is None and (drawn := _drawn(cls, name)) is not None:
            return drawn
        loaded = load(backend, model) if isinstance(backend, str) else cls.from_pretrained(model)
    loaded.name = loaded.name or type(loaded).__name__
    return loaded


def _drawn(cls: type[Backend], name: str) -> Backend | None:
    """A model with random weights, for a backend that has a class of models and none of its own that is trained."""
    if not issubclass(cls, TransformersBackend) or cls.model_class is None or cls.hub_id or cls.bundled:
        return None
    import torch

    from aigc_text.data.tokenizer_training import train
    from aigc_text.utils.isolation import seeded

    model_checks.check_class(cls, name)
    with seeded(0):
        drawn = cls.from_scratch(train("char", [LETTERS] * 2, None))
        with torch.no_grad():
            for parameter in drawn.model.parameters():  # weights that begin with zeros would hide what they do
                parameter.add_(torch.randn_like(parameter) * 0.1)
    drawn.name = name
    return drawn


def _demand(condition: bool, backend: Backend, what: str) -> None:
    if not condition:
        raise ContractError(f"backend {backend.name!r} breaks the contract: {what}", "See docs/plugins.md.")


def _texts(backend: Backend, prompts: Sequence[str], **options: Any) -> list[Completion]:
    return list(backend.generate(prompts, **{"max_new_tokens": LENGTH, "seed": 7, **options}))


def _options(backend: Backend, prompts: Sequence[str]) -> None:
    """Options: one meaning for each name, documented, unknown ones refused."""
    _demand(issubclass(type(backend).Options, GenerationOptions), backend, "Options does not derive GenerationOptions")
    names = set(backend.Options.fields())
    takes = set(backend.accepted())
    _demand(takes <= names, backend, f"takes names what is no option of it: {sorted(takes - names)}")
    _demand(takes >= DEMANDED, backend, f"takes leaves out {sorted(DEMANDED - takes)}, which every backend takes")
    others = set(TrainingOptions.fields())
    if isinstance(backend, TransformersBackend):
        config = backend.model.config
        fields = {*vars(config), *getattr(type(config), "__annotations__", {})}
        _training_options(backend, fields)
        others |= (names & fields) | set(backend.Training.fields())
    clash = sorted(names & others - SHARED)
    _demand(not clash, backend, f"{clash} are both generation options and training or configuration options")
    for name, field in backend.Options.fields().items():
        _demand(bool(field.metadata.get("help")), backend, f"option {name!r} has no help")
    try:
        backend.resolve(None, {"no_such_option": 1})
    except OptionError:
        return
    _demand(False, backend, "an unknown option is not refused")


def _training_options(backend: TransformersBackend, config: set[str]) -> None:
    """`-o` sets both kinds, so a name must say which."""
    _demand(issubclass(backend.Training, TrainingOptions), backend, "Training does not derive TrainingOptions")
    own = set(backend.Training.fields()) - set(TrainingOptions.fields())
    _demand(not own & config, backend, f"{sorted(own & config)} are both training and configuration options")
    for name in own:
        has_help = bool(backend.Training.fields()[name].metadata.get("help"))
        _demand(has_help, backend, f"training option {name!r} has no help")


def _generates(backend: Backend, prompts: Sequence[str]) -> None:
    """Generates a text for each prompt, in order, within its length."""
    made = _texts(backend, prompts)
    _demand(all(isinstance(c, Completion) for c in made), backend, "generate does not yield Completion")
    _demand([c.prompt for c in made] == list(prompts), backend, "generate does not keep the order of the prompts")
    _demand([c.prompt_index for c in made] == list(range(len(prompts))), backend, "prompt_index is wrong")
    _demand(all(0 < c.tokens <= LENGTH for c in made), backend, "max_new_tokens is not kept")
    _demand(all(c.finish_reason in ("stop", "length") for c in made), backend, "finish_reason is not stop or length")
    _demand(any(c.text for c in made), backend, "all texts are empty")
    _demand(len(_texts(backend, [""])) == 1, backend, "an empty prompt does not generate")


def _seeds(backend: Backend, prompts: Sequence[str]) -> None:
    """Seeds: the same one gives the same text, alone or among others; other ones give others."""
    options = _sampling(backend)
    together = [c.text for c in _texts(backend, prompts, **options)]
    _demand(together == [c.text for c in _texts(backend, prompts, **options)], backend, "a seed does not repeat itself")
    alone = _texts(backend, prompts[:1], **options)[0]
    if alone.exact:
        _demand(alone.text == together[0], backend, "a text depends on the prompts beside it")
    many = {c.text for s in range(6) for c in _texts(backend, prompts[:1], **{**options, "seed": s})}
    _demand(len(many) > 1, backend, "six seeds give the same text")


def _sampling(backend: Backend) -> dict[str, Any]:
    return {"do_sample": True} if "do_sample" in backend.accepted() else {}


def _samples(backend: Backend, prompts: Sequence[str]) -> None:
    """Several samples of a prompt, in order, each with a draw of its own."""
    options = _sampling(backend)
    made = _texts(backend, prompts[:2], num_return_sequences=3, **options)
    places = [(c.prompt_index, c.index) for c in made]
    _demand(places == [(i, j) for i in range(2) for j in range(3)], backend, f"samples come as {places}")
    first = _texts(backend, prompts[:1], **options)[0]
    if first.exact:
        _demand(first.text == made[0].text, backend, "sample 0 of 3 is not the text of one sample")
    _demand(len({c.text for c in _texts(backend, prompts[:1], num_return_sequences=6, **options)}) > 1, backend,
            "six samples are the same")  # fmt: skip


def _streams(backend: Backend, prompts: Sequence[str]) -> None:
    """Stream equals generate."""
    made = _texts(backend, prompts)
    for n, prompt in enumerate(prompts[:1]):
        streamed = "".join(backend.stream(prompt, max_new_tokens=LENGTH, seed=7))
        if made[n].exact:
            _demand(streamed == made[n].text, backend, f"stream gives {streamed!r}, generate {made[n].text!r}")
    joined: dict[int, str] = {}
    for piece in backend.pieces(prompts, max_new_tokens=LENGTH, seed=7):
        joined[piece.prompt_index] = joined.get(piece.prompt_index, "") + piece.text
        if piece.completion is not None:
            same = joined[piece.prompt_index] == piece.completion.text
            _demand(same, backend, "the pieces of a text are not its text")


def _stops(backend: Backend, prompts: Sequence[str]) -> None:
    """Stop strings: the text ends before the first, with finish reason stop."""
    whole = max(_texts(backend, prompts), key=lambda c: len(c.text))
    half = len(whole.text) // 2
    stop = whole.text[half : half + 3]
    cut = _texts(backend, prompts, stop_strings=(stop,))[whole.prompt_index]
    expected = whole.text[: whole.text.index(stop)]
    _demand(cut.text == expected, backend, f"with stop string {stop!r} it gives {cut.text!r}, not {expected!r}")
    _demand(cut.finish_reason == "stop", backend, "a stop string does not give finish_reason stop")


def _effects(backend: Backend, prompts: Sequence[str]) -> None:
    """Every option that it takes has its effect."""
    try:
        check_options(backend, prompts)
    except Ignored as error:
        _demand(False, backend, str(error))


def _architecture(backend: Backend, prompts: Sequence[str]) -> bool | None:
    """The model has what training, saving, loading, generating and scoring call."""
    if not isinstance(backend, TransformersBackend):
        return False
    model_checks.check_model(backend)
    return None


def _scores(backend: Backend, prompts: Sequence[str]) -> None:
    """Scores texts if it says so, and only then: alone as together, tokens that add up, a kind that is named."""
    texts = [*map(_spoken, prompts), "", "从前 🙂 café"]
    kind = backend.capabilities.likelihood
    try:
        together = list(backend.score(texts))
    except BackendError:
        _demand(not kind, backend, f"its capabilities name a likelihood ({kind}), but it does not score")
        return
    _demand(bool(kind), backend, "it scores, but its capabilities name no likelihood")
    _demand([s.text for s in together] == texts, backend, "score does not keep the order of the texts")
    slack = 1e-3 if backend.precision in ("", "float32") else 3e-2  # sums in half precision vary with the batch
    for score in together:
        _demand(score.kind.startswith(kind), backend, f"its capabilities say {kind!r}, a score says {score.kind!r}")
        _demand(math.isfinite(score.nll) and score.tokens >= 0, backend, f"score gives nll {score.nll!r}")
        _demand(bool(score.tokens) or not score.text, backend, f"score finds no token in {score.text!r}")
        parts = score.per_token
        if parts:
            _demand(len(parts) == score.tokens, backend, f"{score.tokens} tokens, but {len(parts)} in per_token")
            same = math.isclose(sum(t.nll for t in parts), score.nll, rel_tol=1e-6, abs_tol=1e-6)
            _demand(same, backend, "the tokens of a text do not add up to its nll")
            ends = [0, *(t.end for t in parts)]
            ordered = all(a <= t.start <= t.end <= len(score.text) for a, t in zip(ends, parts, strict=False))
            _demand(ordered, backend, f"the places of the tokens of {score.text!r} overlap or lie outside it")
        if kind == "exact":  # the others may draw
            [alone] = backend.score([score.text])
            same = math.isclose(alone.nll, score.nll, rel_tol=slack, abs_tol=slack)
            _demand(same, backend, f"a text scores {alone.nll} nats alone and {score.nll} among others")


def _spoken(prompt: str) -> str:
    """A text to score where prompts are empty."""
    return prompt or "the cat sat on the mat"


def _batches(backend: Backend, prompts: Sequence[str]) -> bool | None:
    """Batch size and order of work change nothing."""
    if not isinstance(backend, TransformersBackend):
        return False
    options = {**_sampling(backend), "num_return_sequences": 2}
    alone = _texts(backend, prompts, batch_size=1, **options)
    if not alone[0].exact:
        return False
    for size in (2, 4, 7):
        made = _texts(backend, prompts, batch_size=size, **options)
        same = [c.text for c in made] == [c.text for c in alone]
        _demand(same, backend, f"batches of {size} give other texts than batches of 1")
    places = [(c.prompt_index, c.index, c.prompt) for c in alone]
    resolved = backend.resolve(None, {**options, "max_new_tokens": LENGTH, "seed": 7})
    pieces = backend.decode(reversed(places), resolved, Budget(4))
    shuffled = {(p.prompt_index, p.index): p.completion.text for p in pieces if p.completion is not None}
    same = shuffled == {(c.prompt_index, c.index): c.text for c in alone}
    _demand(same, backend, "the order of work changes the texts")
    return None


def _saves(backend: Backend, prompts: Sequence[str]) -> bool | None:
    """Saved, loaded, same text."""
    from aigc_text.api import load
    from aigc_text.backends.registry import list_backends
    from aigc_text.hub import locate

    if not backend.capabilities.saving:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "saved"
        backend.save_pretrained(folder)
        known, file = backend.name in list_backends(), ".py:" in backend.name
        if known or file:  # which file of code is run must be said, never taken from a folder
            again = load(backend.name if file else None, str(folder))
        else:
            again = type(backend).from_pretrained(str(folder))
        same = [c.text for c in _texts(again, prompts)] == [c.text for c in _texts(backend, prompts)]
        _demand(same, backend, "after saving and loading it gives another text")
        named = locate.backend_of(str(folder)) == backend.name
        _demand(named or not (known or file), backend, "the saved folder does not name its backend")
    return None


def _trains(backend: Backend, prompts: Sequence[str]) -> bool | None:
    """Trains: two updates with a finite loss, in place."""
    from aigc_text.training import trainer

    if not (isinstance(backend, TransformersBackend) and backend.capabilities.training):
        return False
    options = TrainingOptions(max_steps=2, batch_size=2, block_size=8, warmup_steps=0, precision="fp32")
    texts = [" ".join(prompts) + " and the cat saw the dog and the dog saw the cat on the mat"] * 8
    before = [p.detach().clone() for p in backend.model.parameters()]
    model = backend.model.float().train()
    evaluate = backend.validator(texts, options)
    run = trainer.train(model, backend.objective(options), backend.batches(texts, options), options, evaluate=evaluate)
    reports = list(run)
    figures = [v for r in reports for v in r.logs.values()]
    _demand(len(reports) == 2 and all(map(math.isfinite, figures)), backend, "two updates do not give finite figures")
    moved = any(not a.equal(b) for a, b in zip(before, backend.model.parameters(), strict=True))
    _demand(moved, backend, "training does not change the model")
    return None


_CHECKS: list[Callable[[Backend, Sequence[str]], bool | None]] = [
    _architecture,
    _options,
    _generates,
    _seeds,
    _samples,
    _streams,
    _stops,
    _effects,
    _scores,
    _batches,
    _saves,
    _trains,  # last, since it changes the model
]
