"""What a VAE's figures are, each by its definition: bound, importance-weighted likelihood, and how much z holds.

All of them are estimates or bounds, and are named as such: the likelihood of a VAE cannot be computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from aigc_text.generation.engine import stream_key
from aigc_text.generation.sampling import normal
from aigc_text.training.losses import token_nll

from .model import kl_divergence

if TYPE_CHECKING:
    from .model import VAEForCausalLM

STATES = 1 << 24  # elements of the decoder's outputs computed at once: 64 megabytes in fp32
LOGITS = {"cpu": 1 << 20}  # elements of the logits: on the CPU what stays in a core's cache, elsewhere many
SENTENCES = 64  # whose posteriors are found together
ACTIVE = 0.01  # variance of a unit's posterior mean above which it is active: Burda et al. 2016
BOUND_SAMPLES = 10  # draws of z for a bound


class Posteriors(NamedTuple):
    """Mean and log variance, (N, D) both, of the posteriors of N sentences."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    def draw(self, keys: torch.Tensor, samples: int) -> torch.Tensor:
        """(N, samples, D) draws; what a sentence gets follows from its key (N,) alone."""
        n, d = self.mean.shape
        noise = normal(keys, samples * d).view(n, samples, d).to(self.mean)
        return self.mean[:, None] + (0.5 * self.log_variance).exp()[:, None] * noise


def log_normal(z: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """log N(z; mean, diag exp(log_variance)), the sum over the last dimension."""
    square = (z - mean).square() / log_variance.exp()
    return -0.5 * (math.log(2 * math.pi) + log_variance + square).sum(-1)


def negative_bound(log_likelihood: torch.Tensor, posteriors: Posteriors) -> torch.Tensor:
    """The negative ELBO (N,) in nats, estimated: the mean of -log p(x | z) over draws plus the KL, which is exact.

    The ELBO's own value bounds -log p(x) from above; this estimate of it only does so on average.

    Args:
        log_likelihood: (N, K) log p(x | z) of K draws from each posterior.
        posteriors: of the N sentences.
    """
    return kl_divergence(*posteriors).sum(1) - log_likelihood.mean(1)


def bound_error(log_likelihood: torch.Tensor) -> float | None:
    """The standard error in nats of one sentence's estimated bound from its draws (1, K), if there are several."""
    count = log_likelihood.shape[1]
    return float(log_likelihood.std()) / math.sqrt(count) if count > 1 else None


def importance_weighted(log_likelihood: torch.Tensor, z: torch.Tensor, posteriors: Posteriors) -> torch.Tensor:
    """-log of the mean of p(x, z) / q(z | x) over draws from q (N,), in nats: Burda et al. 2016, equation 8.

    On average at least -log p(x), and nearer to it with every draw.

    Args:
        log_likelihood: (N, K) log p(x | z).
        z: (N, K, D) the draws.
        posteriors: of the N sentences, from which they were drawn.
    """
    return math.log(z.shape[1]) - log_weights(log_likelihood, z, posteriors).logsumexp(1)


def log_weights(log_likelihood: torch.Tensor, z: torch.Tensor, posteriors: Posteriors) -> torch.Tensor:
    """log of p(x, z) / q(z | x) (N, K) of the same arguments."""
    prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z))  # (N, K)
    drawn_from = log_normal(z, *(part[:, None] for part in posteriors))
    return log_likelihood.double() + prior.double() - drawn_from.double()


def mutual_information(posteriors: Posteriors, z: torch.Tensor) -> torch.Tensor:
    """Mutual information in nats of x and z under the encoder, with the N sentences for the data's distribution.

    E[KL(q(z|x) || p(z))] - KL(q(z) || p(z)) with the aggregated posterior q(z) = 1/N sum q(z|x_n) (Hoffman and
    Johnson 2016), which is E[log q(z|x) - log q(z)], estimated with one draw for each sentence. He et al. 2019 do the
    same but take the first term by its formula; with one draw for both terms most of the noise cancels. It cannot
    exceed log N.

    Args:
        posteriors: of N sentences.
        z: (N, D), a draw from each.
    """
    return (log_normal(z, *posteriors) - aggregated(posteriors, z)).mean()


def aggregated(posteriors: Posteriors, z: torch.Tensor) -> torch.Tensor:
    """log q(z) (M,) of the aggregated posterior of N sentences at points (M, D)."""
    parts = [log_normal(some[:, None], *posteriors).logsumexp(1) for some in z.split(SENTENCES)]  # (m, N, D) at once
    return torch.cat(parts) - math.log(len(posteriors.mean))


def active_units(posteriors: Posteriors) -> int:
    """How many units' posterior means vary by more than .01 over the sentences (Burda et al. 2016, section 5.2)."""
    return int((posteriors.mean.var(0, unbiased=False) > ACTIVE).sum())


# The same of a model and rows of tokens


class Sentence(NamedTuple):
    """The ids of one sentence with its beginning and end, and how many of the first are not predicted."""

    ids: Sequence[int]
    masked: int = 1


@torch.no_grad()
def posteriors(model: VAEForCausalLM, sentences: Sequence[Sentence]) -> Posteriors:
    """The posteriors of sentences, in their order."""
    order = sorted(range(len(sentences)), key=lambda n: len(sentences[n].ids))
    mean = torch.empty(len(sentences), model.config.latent_size, dtype=torch.float32)
    log_variance = torch.empty_like(mean)
    for first in range(0, len(order), SENTENCES):
        chosen = order[first : first + SENTENCES]
        ids, mask = filled([sentences[n].ids for n in chosen], model.device)
        for into, found in zip((mean, log_variance), model.encode(ids, mask), strict=True):
            into[chosen] = found.float().cpu()
    return Posteriors(mean, log_variance)


def filled(rows: Sequence[Sequence[int]], device: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Ids (B, T) filled up on the right, and their mask (B, T) if there is anything to mask."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids.to(device), None if bool(mask.all()) else mask.to(device)


@torch.no_grad()
def log_likelihoods(model: VAEForCausalLM, sentence: Sentence, z: torch.Tensor) -> torch.Tensor:
    """log p(x | z) (K,) in nats of one sentence under each of the vectors (K, D), so many at once as fit."""
    ids = torch.tensor(sentence.ids, device=model.device)
    targets = ids[sentence.masked :]  # (T',)
    size = max(1, STATES // (len(ids) * model.config.hidden_size))
    rows = max(1, LOGITS.get(model.device.type, 1 << 27) // model.config.vocab_size)
    found = []
    for some in z.to(model.device).split(size):
        outputs, _ = model.read(ids[None, :-1].expand(len(some), -1), some)  # (k, T - 1, H)
        parts = outputs[:, sentence.masked - 1 :].flatten(0, 1).split(rows)
        wanted = targets.repeat(len(some)).split(rows)
        nll = [token_nll(model.logits(part), target) for part, target in zip(parts, wanted, strict=True)]
        found.append(-torch.cat(nll).view(len(some), -1).sum(1).cpu())
    return torch.cat(found)


@dataclass(frozen=True)
class Estimates:
    """Figures of a data set, in nats a sentence unless said.

    Attributes:
        sentences: how many.
        words: separated by white space, the end of each sentence counted as one.
        bound: the negative ELBO, estimated by the mean of `samples` draws a sentence.
        reconstruction: its part -log p(x | z) under draws from the posterior.
        kl: its other part.
        importance_weighted: estimate of -log p(x) from `samples` draws a sentence.
        importance_weighted_se: its standard error over sentences.
        perplexity: a word, from `importance_weighted`.
        bound_perplexity: a word, from `bound`: on average at least the perplexity.
        mutual_information: of x and z under the encoder, at most log(sentences).
        active_units: units whose posterior mean has a variance over .01.
        samples: draws of z for each sentence.
    """

    sentences: int
    words: int
    bound: float
    reconstruction: float
    kl: float
    importance_weighted: float
    importance_weighted_se: float
    perplexity: float
    bound_perplexity: float
    mutual_information: float
    active_units: int
    samples: int


def estimate(
    model: VAEForCausalLM,
    sentences: Sequence[Sentence],
    words: int,
    *,
    samples: int = 500,
    seed: int = 0,
    watch: Callable[[int], None] = lambda done: None,
) -> Estimates:
    """All figures of a data set; see `Estimates`. What is drawn for a sentence follows from (seed, its place).

    Args:
        model: in evaluation mode.
        sentences: the data.
        words: in it, with one more for the end of each sentence.
        samples: draws of z for each sentence.
        seed: of the draws.
        watch: called with the number of sentences that are done.
    """
    found = posteriors(model, sentences)
    bounds, weighted, first = [], [], []
    for n, sentence in enumerate(sentences):
        own = Posteriors(*(part[n : n + 1] for part in found))
        z = own.draw(torch.tensor([stream_key(seed, n, 0)]), samples)  # (1, K, D)
        likelihood = log_likelihoods(model, sentence, z[0])[None]  # (1, K)
        bounds.append(negative_bound(likelihood, own).double())
        weighted.append(importance_weighted(likelihood, z, own))
        first.append(z[:, 0])
        watch(n + 1)
    bound, nll = torch.cat(bounds), torch.cat(weighted)
    kl = float(kl_divergence(*found).sum(1).mean())
    return Estimates(
        sentences=len(sentences),
        words=words,
        bound=float(bound.mean()),
        reconstruction=float(bound.mean()) - kl,
        kl=kl,
        importance_weighted=float(nll.mean()),
        importance_weighted_se=float(nll.std() / math.sqrt(len(nll))),
        perplexity=math.exp(float(nll.sum()) / words),
        bound_perplexity=math.exp(float(bound.sum()) / words),
        mutual_information=float(mutual_information(found, torch.cat(first))),
        active_units=active_units(found),
        samples=samples,
    )


class Validation:
    """Called with a model during training: its bound as `VAE.score` finds it, and how much z holds.

    Each text has the same draws of z every time. Every process looks at all texts.

    Args:
        sentences: rows of the texts.
        utf8_bytes: of the texts together.
        unknown: the id that stands for unknown words; then their share is reported too.
    """

    notes: Sequence[str] = ()

    def __init__(self, sentences: Sequence[Sentence], utf8_bytes: int, unknown: int | None = None) -> None:
        self.sentences, self.utf8_bytes, self.unknown = sentences, utf8_bytes, unknown
        self.tokens = sum(len(s.ids) - s.masked for s in sentences)

    def __call__(self, model: Any) -> dict[str, float]:
        found = posteriors(model, self.sentences)
        keys = torch.tensor([stream_key(0, n, 0) for n in range(len(self.sentences))])
        z = found.draw(keys, BOUND_SAMPLES)  # (N, K, D)
        likelihood = torch.stack([log_likelihoods(model, s, z[n]) for n, s in enumerate(self.sentences)])  # (N, K)
        bound = float(negative_bound(likelihood, found).double().sum())
        kl = float(kl_divergence(*found).sum())
        figures = {
            "loss": bound / max(1, self.tokens),
            "bits_per_byte": bound / math.log(2) / max(1, self.utf8_bytes),
            "bound": bound / len(self.sentences),
            "reconstruction": (bound - kl) / len(self.sentences),
            "kl": kl / len(self.sentences),
            "mutual_information": float(mutual_information(found, z[:, 0])),
            "active_units": float(active_units(found)),
        }
        if self.unknown is None:
            return figures
        unknown = sum(list(s.ids[s.masked :]).count(self.unknown) for s in self.sentences)
        return {**figures, "unknown": unknown / max(1, self.tokens)}
