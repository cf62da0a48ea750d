"""`Mauve`: how near a set of texts comes to another, in the features of a language model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aigc_text.errors import MetricError
from aigc_text.metrics.base import TextMetric
from aigc_text.utils.isolation import evaluation

from .reference_model import REFERENCE_MODEL, loaded

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend

SCALE = 5.0  # c of the paper
POINTS = 25  # of the divergence curve, its two ends not counted
VARIANCE = 0.9  # that the principal components keep
TEXTS_A_CLUSTER = 10
RUNS = 5  # of k-means
ITERATIONS = 500  # of one run at most; it ends as soon as no point moves
ADVISED = 1000  # texts a side below which the result says that they are few
BATCH_TOKENS = 8192


class Mauve(TextMetric):
    """MAUVE of texts against references: 1 where no cluster tells them apart, near 0 where every one does.

    Both sets are mapped to features of a causal language model, clustered together, and their histograms over the
    clusters compared by the area under the divergence curve (Pillutla et al. 2021). The figure depends on the feature
    model, on the number of texts and on their lengths: compare only figures that have all of them in common.

    >>> from aigc_text.evaluation.model_metrics.mauve import Mauve
    >>> texts = [f"Once upon a time there was {n}." for n in range(20)]
    >>> found = Mauve().compute(predictions=texts, references=texts[::-1])
    >>> found["mauve"], found["feature_model"]
    (1.0, 'bundled:gpt2-tales')
    """

    citation = """@inproceedings{pillutla2021mauve, title={{MAUVE}: Measuring the Gap Between Neural Text and Human \
Text using Divergence Frontiers}, author={Pillutla, Krishna and Swayamdipta, Swabha and Zellers, Rowan and Thickstun, \
John and Welleck, Sean and Choi, Yejin and Harchaoui, Zaid}, booktitle={NeurIPS}, year={2021}}
@article{pillutla2023mauve, title={{MAUVE} Scores for Generative Models: Theory and Practice}, author={Pillutla, \
Krishna and Liu, Lang and Thickstun, John and Welleck, Sean and Swayamdipta, Swabha and Zellers, Rowan and Oh, Sewoong \
and Choi, Yejin and Harchaoui, Zaid}, journal={JMLR}, year={2023}}"""

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str] | None = None,
        feature_model: Backend | str | None = None,
        max_length: int = 256,
        seed: int = 0,
    ) -> dict[str, Any]:
        """What `compare` gives for the features of both sets, with `feature_model` and `max_length` beside it.

        Args:
            predictions: texts; an empty one counts, as the token that begins a text.
            references: texts to compare them with.
            feature_model: a causal language model: a loaded backend, a backend's name, a hub id or a folder; by
                default the bundled prose model.
            max_length: tokens after which a text is cut, at most the model's context.
            seed: of the clustering.

        Raises:
            MetricError: no references, too few texts, or a model that gives no features.
        """
        if not references:
            raise MetricError(f"{self.name} compares texts with references", "Give references, a list of texts.")
        demand_texts(len(predictions), len(references))
        backend = loaded(REFERENCE_MODEL if feature_model is None else feature_model)
        found = compare(*(features(texts, backend, max_length) for texts in (predictions, references)), seed=seed)
        return {**found, "feature_model": backend.source or backend.name, "max_length": float(max_length)}


def features(texts: Iterable[str], model: Backend | str, max_length: int = 256) -> np.ndarray:
    """The last hidden state of a causal language model at the last token of each text.

    They depend on the set of texts by rounding only, and not on its order.

    Args:
        texts: plain strings; an empty one stands for the token that begins a text.
        model: as `feature_model` of `Mauve`.
        max_length: tokens after which a text is cut, at most the model's context.

    Returns:
        (N, D) float32.

    Raises:
        MetricError: a model that gives no such states.
    """
    backend: Any = loaded(model)
    if getattr(backend, "auto_class", "") != "AutoModelForCausalLM":
        cure = "Give a causal language model, such as gpt2, or leave it out for the bundled one."
        raise MetricError(f"backend {backend.name!r} gives no features of texts", cure)
    if max_length < 1:
        raise MetricError(f"max_length cannot be {max_length}", "Allowed: a whole number from 1")
    most = min(max_length, backend.engine().context() or max_length)
    options = backend.Options()
    rows = [tuple(backend.prompt_tokens(text, options)[:most]) for text in texts]
    distinct = sorted(set(rows), key=lambda row: (len(row), row))
    found: dict[tuple[int, ...], np.ndarray] = {}
    while distinct:
        size = max(1, BATCH_TOKENS // len(distinct[-1]))
        batch, distinct = distinct[-size:], distinct[:-size]
        with evaluation(backend.model):
            found.update(zip(batch, _last_states(backend, batch), strict=True))
    return np.stack([found[row] for row in rows])


def _last_states(backend: Any, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """(B, D) of rows sorted by their length."""
    import torch

    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), len(rows[-1])), backend.pad())
    for n, row in enumerate(rows):
        ids[n, : len(row)] = torch.tensor(row)  # padding comes after the state that is taken
    ids = ids.to(backend.model.device)
    inner = backend.model.base_model  # without the head, whose logits nobody needs
    with torch.inference_mode():
        states = getattr(inner(input_ids=ids, attention_mask=torch.ones_like(ids)), "last_hidden_state", None)
    if states is None:
        raise MetricError(f"the model of backend {backend.name!r} gives no hidden states", "Give another one.")
    found: np.ndarray = states[torch.arange(len(rows)), lengths.to(states.device) - 1].float().cpu().numpy()
    return found


def demand_texts(predictions: int, references: int) -> None:
    """Refuses numbers of texts for which MAUVE is not defined.

    Raises:
        MetricError: too few on a side.
    """
    least = next(n for n in range(1000) if _clusters(n) > 1)
    if min(predictions, references) < least:
        raise MetricError(
            f"MAUVE of {predictions} texts against {references} is not defined: they make one cluster only",
            f"Give at least {least} texts on each side; {ADVISED:,} and more make sense.",
        )


def _clusters(texts: int) -> int:
    return round(texts / TEXTS_A_CLUSTER)


class Figures(NamedTuple):
    """Of two histograms; see `compare`."""

    mauve: float
    mauve_star: float
    frontier_integral: float


def compare(p: np.ndarray, q: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """MAUVE of features, averaged over `RUNS` clusterings.

    The features are scaled to length one, projected on the principal components that keep `VARIANCE` of the variance,
    and clustered by k-means, k being a tenth of the texts of the smaller side. Nothing depends on their order, and p
    and q may change places.

    Args:
        p: (N, D), features of the texts.
        q: (M, D), features of the references.
        seed: of the clustering.

    Returns:
        `mauve`, the area under the divergence curve (Pillutla et al. 2021, section 2); `mauve_star`, the same after
        Krichevsky-Trofimov smoothing, half a text more in every cluster (Pillutla et al. 2023); `frontier_integral`,
        from 0 (the same) to 1 (Liu et al. 2021, Divergence Frontiers for Generative Models); `…_sd`, their standard
        deviation over the clusterings; `clusters`; and a `note` where the texts are few.

    Raises:
        MetricError: too few texts, or features that are not finite.
    """
    demand_texts(len(p), len(q))
    if not (np.isfinite(p).all() and np.isfinite(q).all()):
        raise MetricError("the features of the texts are not finite numbers", "Take another feature model, or fp32.")
    # Rows that are sorted and distinct: the clustering cannot depend on the order, and equal texts stay together.
    points, place = np.unique(_unit(np.concatenate([p, q])), axis=0, return_inverse=True)
    place = place.reshape(-1)  # (N + M,); some versions of numpy give it another shape
    weights = np.bincount(place).astype(np.float64)
    points = _principal(points, weights)
    k = _clusters(min(len(p), len(q)))
    runs = []
    for run in range(RUNS):
        labels = kmeans(points, weights, k, np.random.default_rng([seed, run]))[place]
        counts = (np.bincount(labels[: len(p)], minlength=k), np.bincount(labels[len(p) :], minlength=k))
        runs.append(of_counts(*counts))
    table = np.array(runs)  # (RUNS, figures)
    found: dict[str, Any] = {}
    for name, values in zip(Figures._fields, table.T, strict=True):
        found[name], found[f"{name}_sd"] = float(values.mean()), float(values.std(ddof=1))
    found["clusters"] = float(k)
    if min(len(p), len(q)) < ADVISED:
        found["note"] = f"MAUVE of {len(p)} texts against {len(q)}: under {ADVISED:,} a side it is too rough to compare"
    return found


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of length one (L2), so that no text counts more than another."""
    x = x.astype(np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, out=x, where=norm > 0)


def _principal(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, d) float32: the fewest principal components of x (N, D) that keep `VARIANCE` of the variance."""
    x = x - np.average(x, axis=0, weights=weights)
    values, vectors = np.linalg.eigh((x * weights[:, None]).T @ x / weights.sum())
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    kept = int(np.searchsorted(values.cumsum(), VARIANCE * values.sum())) + 1
    return (x @ vectors[:, :kept]).astype(np.float32)


def kmeans(x: np.ndarray, weights: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Lloyd's algorithm, begun from points at random, as in the paper's own code.

    The seeding of k-means++ would find tighter clusters, but many of a single outlier, and other figures with them:
    compared with published ones they are too high with smoothing and too low without.

    Args:
        x: (N, d), distinct points.
        weights: (N,), how often each is there.
        k: clusters; with fewer points than that, each is one.
        rng: draws the seeding.

    Returns:
        (N,) the cluster of each point.
    """
    if len(x) <= k:
        return np.arange(len(x))
    chances = weights / weights.sum()
    centres = x[rng.choice(len(x), k, replace=False, p=chances)]  # (k, d)
    labels = np.full(len(x), -1)
    for _ in range(ITERATIONS):
        nearest = _nearest(x, centres)
        if (nearest == labels).all():
            break
        labels = nearest
        size = np.bincount(labels, weights, minlength=k)  # (k,)
        sums = np.stack([np.bincount(labels, weights * column, minlength=k) for column in x.T], axis=1)  # (k, d)
        centres = (sums / np.maximum(size, 1)[:, None]).astype(np.float32)
        empty = np.flatnonzero(size == 0)
        centres[empty] = x[rng.choice(len(x), len(empty), replace=False, p=chances)]
    return labels


def _nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest centre of each point; (N,)."""
    squares = (centres * centres).sum(1)
    parts = (x[first : first + 4096] for first in range(0, len(x), 4096))  # a table of (4096, k) at a time
    return np.concatenate([(part @ (-2 * centres.T) + squares).argmin(1) for part in parts])


def of_counts(p: np.ndarray, q: np.ndarray) -> Figures:
    """The figures of two histograms of texts over clusters, (k,) both."""
    smooth_p, smooth_q = p + 0.5, q + 0.5
    smooth = _area(smooth_p / smooth_p.sum(), smooth_q / smooth_q.sum())
    p, q = p / p.sum(), q / q.sum()
    return Figures(_area(p, q), smooth, _frontier_integral(p, q))


def _area(p: np.ndarray, q: np.ndarray) -> float:
    """The area under exp(-c KL(q | r)), exp(-c KL(p | r)) over all mixtures r = w p + (1 - w) q."""
    w = np.linspace(1e-6, 1 - 1e-6, POINTS)[:, None]
    r = w * p + (1 - w) * q  # (POINTS, k)
    x = np.array([1, *np.exp(-SCALE * _divergence(q, r)), 0])  # falls as w grows, and y rises
    y = np.array([0, *np.exp(-SCALE * _divergence(p, r)), 1])
    return round(float(((y[1:] + y[:-1]) / 2 * -np.diff(x)).sum()), 12)  # of equal sets 1, in spite of rounding


def _divergence(p: np.ndarray, r: np.ndarray) -> np.ndarray:
    """KL(p | r) in nats of p (k,) from each r (POINTS, k), which is above 0 where p is."""
    there = p > 0
    found: np.ndarray = (p[there] * np.log(p[there] / r[:, there])).sum(1)
    return found


def _frontier_integral(p: np.ndarray, q: np.ndarray) -> float:
    """Twice the mean over w of w KL(p | r) + (1 - w) KL(q | r), r as above, in closed form."""
    total = 0.0
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        if a == 0 or b == 0:
            total += (a + b) / 2
        elif not math.isclose(a, b, rel_tol=1e-9):
            total += (a + b) / 2 - a * b * math.log(a / b) / (a - b)
    return total
