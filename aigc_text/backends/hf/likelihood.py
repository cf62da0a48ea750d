"""How likely texts are under a causal model of transformers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aigc_text.backends.base import no_likelihood
from aigc_text.errors import BackendError
from aigc_text.outputs import Score
from aigc_text.utils import isolation

if TYPE_CHECKING:
    import torch

    from .family import Family

TRAINED_KEY = "aigc_text_trained_context"  # in config.json: tokens of the longest rows of its training from scratch


def without_cache(model: Any) -> dict[str, bool]:
    """The argument by which a model fills no cache, if it has one."""
    return {"use_cache": False} if hasattr(model.config, "use_cache") else {}


def context(backend: Family) -> int:
    """Tokens of a window; see `TransformersBackend.score_context`."""
    from aigc_text.scoring.windows import CONTEXT

    trained = getattr(backend.model.config, TRAINED_KEY, None)
    return min(backend.engine().context() or CONTEXT, trained or CONTEXT, CONTEXT)


def token_nll(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihoods in nats (B, T - 1) of all tokens of `ids` (B, T) but the first."""
    from aigc_text.training.losses import row_nll

    return row_nll(model, ids, input_ids=ids, attention_mask=ids.new_ones(ids.shape), **without_cache(model))


def score(backend: Family, texts: Iterable[str], batch_size: int, window: int | None) -> Iterator[Score]:
    """The exact likelihood of each text; see `TransformersBackend.score`."""
    if backend.converted is not None:
        raise BackendError("the engine ctranslate2 does not score texts", "Load the model with engine='torch'.")
    if not backend.capabilities.likelihood:
        raise no_likelihood(backend.name)
    from aigc_text.scoring.windows import check_window, encoded, scores

    check_window(window, backend.engine().context(), batch_size)

    def nll(ids: torch.Tensor) -> torch.Tensor:
        return backend.token_nll(ids.to(backend.model.device))

    made = encoded(backend.tokenizer, texts, backend.prompt_tokens("", backend.Options()))
    found = scores(
        nll,
        made,
        context=window or backend.score_context(),
        batch_size=batch_size,
        kept=backend.template.before,
        pad=backend.pad(),
        vocabulary=len(backend.tokenizer),
    )
    return isolation.in_evaluation(backend.model, found)
