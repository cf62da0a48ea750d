"""`vae`: a sequence VAE (Bowman et al. 2016). Sentences to latent vectors and back, and what lies between them.

`model` has the model, `objective` the loss and the remedies against posterior collapse, `estimates` what its figures
are, `latents` ways between vectors and differences in files; here is what a user does with it. Guide:
docs/vae.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from aigc_text.backends.base import Capabilities
from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.backends.hf.loading import fresh
from aigc_text.data.encoding import SentenceEncoder, sentences, spread
from aigc_text.errors import OptionError
from aigc_text.generation.engine import stream_key
from aigc_text.generation.sampling import normal
from aigc_text.options.base import option
from aigc_text.options.contradictions import SAMPLING
from aigc_text.options.generation import GenerationOptions
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Score
from aigc_text.utils.isolation import evaluation, in_evaluation

from . import estimates as estimates
from .latents import Difference, between
from .model import VAEForCausalLM
from .objective import ELBO, VAETraining

if TYPE_CHECKING:
    from typing import Self

    from transformers import GenerationConfig, PreTrainedTokenizerBase

    from aigc_text.data.encoding import Encoder
    from aigc_text.data.sources import Example
    from aigc_text.generation.engine import Engine
    from aigc_text.training.objective import Objective
    from aigc_text.training.trainer import Evaluate

STEPS = 7  # texts between two sentences where nobody says how many


@dataclass(frozen=True, kw_only=True)
class VAEOptions(GenerationOptions):
    """Generation options of the VAE. Without any, z is drawn from the prior and the text goes on from the prompt."""

    greedy_varies: ClassVar[bool] = True

    mode: str | None = option(
        None, "Go on from the prompt (the default), or write the prompt anew from its z.",
        choices=("continue", "reconstruct"),
    )  # fmt: skip
    z_temperature: float | None = option(None, "Scales the noise in z; 0 takes the mean. Default 1.", low=0)
    posterior: str | None = option(
        None, "A sentence's z: the mean of its posterior (the default), or a draw.", choices=("mean", "sample")
    )
    z_of: str | None = option(None, "Go on from the prompt under the z of this sentence.")
    interpolate_to: str | None = option(None, "Walk from the z of the prompt to that of this sentence.")
    steps: int | None = option(None, f"Texts of that walk, both ends counted. Default {STEPS}.", low=2)
    path: str | None = option(None, "The walk's way. Default linear.", choices=("linear", "spherical"))
    z_add: str | None = option(None, "Add the difference in this file, made by aigc-text latents, to z.")
    z_scale: float | None = option(None, "That difference times this number. Default 1.")

    def __post_init__(self) -> None:
        super().__post_init__()
        walks, rewrites = self.interpolate_to is not None, self.mode == "reconstruct"
        self._exclude(walks and rewrites, "interpolate_to", "mode=reconstruct")
        self._exclude(walks and self.z_of is not None, "interpolate_to", "z_of")
        self._exclude(rewrites and self.z_of is not None, "mode=reconstruct", "z_of")
        self._exclude(walks and self.posterior == "sample", "interpolate_to", "posterior=sample")
        self._exclude(walks and (self.num_beams or 1) > 1, "interpolate_to", "num_beams")  # beams are of one z
        self._need(self.steps is not None and not walks, "steps", "interpolate_to")
        self._need(self.path is not None and not walks, "path", "interpolate_to")
        self._need(self.z_scale is not None and self.z_add is None, "z_scale", "z_add")
        lone = self.posterior is not None and not (walks or rewrites or self.z_of is not None)
        self._need(lone, "posterior", "mode=reconstruct, z_of or interpolate_to")
        if walks and self.num_return_sequences not in (None, self.texts):
            raise OptionError(
                f"num_return_sequences={self.num_return_sequences} with interpolate_to, which gives {self.texts} texts",
                "Set their number with -o steps=…",
            )

    def _exclude(self, both: bool, one: str, other: str) -> None:
        if both:
            raise OptionError(f"{one} and {other} do not go together", "Ask for the one or for the other.")

    def _need(self, lone: bool, one: str, other: str) -> None:
        if lone:
            raise OptionError(f"{one} belongs to {other}", f"Give {other} as well, or leave {one} out.")

    @property
    def texts(self) -> int:
        """How many texts a walk has."""
        return self.steps or STEPS

    @property
    def encodes(self) -> bool:
        """Whether the prompt is a sentence to be read, not a text to go on from."""
        return self.mode == "reconstruct" or self.interpolate_to is not None

    @property
    def draws(self) -> bool:
        """Whether z has noise in it."""
        drawn = not self.encodes and self.z_of is None
        return (drawn or self.posterior == "sample") and self.z_temperature != 0


class VAE(TransformersBackend):
    """A sequence VAE, trained here on sentences, each a row of its own."""

    model_type = "aigc_text_vae"
    Options: ClassVar[type[GenerationOptions]] = VAEOptions
    Training: ClassVar[type[TrainingOptions]] = VAETraining
    capabilities = Capabilities(
        streaming=True, training=True, saving=True, latents=True, sentences=True, likelihood="bound"
    )
    packing = False
    sample_by = "line"
    scratch: ClassVar[dict[str, Any]] = {"learning_rate": 1e-2, "batch_size": 32}
    bundled = "vae-captions"
    defaults: ClassVar[dict[str, Any]] = {"do_sample": True, "top_p": 0.9, "top_k": 0}
    model: VAEForCausalLM

    @classmethod
    def from_scratch(cls, tokenizer: PreTrainedTokenizerBase, **config: Any) -> Self:
        """A model with random weights, to be trained.

        Args:
            tokenizer: decides the vocabulary and the end of a text.
            config: fields of `VAEConfig` (`latent_size`, `hidden_size`, `batch_norm_scale`, …).

        Raises:
            OptionError: a field that `VAEConfig` does not have, or a value that it cannot have.
        """
        cure = "See the fields of VAEConfig, e.g. -o latent_size=32 -o hidden_size=256"
        return cls(fresh(VAEForCausalLM, tokenizer, config, cure), tokenizer)

    # Training

    def objective(self, options: TrainingOptions) -> Objective:
        return ELBO(options)

    def encoder(self, options: TrainingOptions) -> Encoder:
        from aigc_text.data.tokenizer_training import unknown_token

        long, unknown = getattr(options, "long_sentences", "cut"), unknown_token(self.tokenizer)
        begin = self.prompt_tokens("", self.Options())
        arguments = (self.tokenizer, self.block_size(options), begin, self.pair_tokens)
        return SentenceEncoder(*arguments, long_sentences=long, unknown=unknown)

    def validator(self, examples: Iterable[Example], options: TrainingOptions) -> Evaluate:
        from aigc_text.data.tokenizer_training import unknown_token

        given = sentences(examples)
        texts = [given[n] for n in spread(len(given), options.eval_blocks)]
        utf8_bytes = sum(len(text.encode()) for text in texts)
        return estimates.Validation(self.sentences(texts), utf8_bytes, unknown_token(self.tokenizer))

    # Generation

    def prompt_tokens(self, prompt: str, options: GenerationOptions) -> list[int]:
        """What begins a sentence, and the prompt if the text is to go on from it."""
        begin = super().prompt_tokens("", options)
        if not (prompt and self.goes_on(options)):
            return begin
        ids = super().prompt_tokens(prompt, options)
        return ids if ids[: len(begin)] == begin else [*begin, *ids]  # some tokenizers put it there themselves

    def held_back(self, prompt: str, options: GenerationOptions) -> str:
        return super().held_back(prompt, options) if self.goes_on(options) else ""

    def goes_on(self, options: GenerationOptions) -> bool:
        return not (isinstance(options, VAEOptions) and options.encodes)

    def draws(self, config: GenerationConfig, options: GenerationOptions) -> bool:
        return super().draws(config, options) or (isinstance(options, VAEOptions) and options.draws)

    def resolve(self, options: GenerationOptions | None, overrides: dict[str, Any]) -> GenerationOptions:
        found = super().resolve(options, overrides)
        walks = isinstance(found, VAEOptions) and found.interpolate_to is not None
        return replace(found, num_return_sequences=found.texts) if walks else found  # type: ignore[attr-defined]

    def generation_config(self, engine: Engine, options: GenerationOptions) -> GenerationConfig:
        """A sentence that was read is written by its likeliest words, unless the user asks for sampling."""
        sampling = any(getattr(options, k) is not None for k in SAMPLING)
        if not self.goes_on(options) and options.do_sample is None and not sampling:
            options = replace(options, do_sample=False)
        return super().generation_config(engine, options)

    def row_inputs(
        self, prompt: str, options: GenerationOptions, key: int | None, index: int = 0
    ) -> dict[str, torch.Tensor]:
        return {"latent": self.latent(prompt, options, key, index)}

    def latent(self, prompt: str, options: GenerationOptions, key: int | None, index: int = 0) -> torch.Tensor:
        """z (D,) of one completion.

        Args:
            prompt: as the user gave it.
            options: where z comes from.
            key: the completion's random stream; `None` where nothing is drawn.
            index: which of the prompt's completions it is: the place on a walk.

        Raises:
            OptionError: a sentence is to be read, and there is none; or z is not finite.
        """
        assert isinstance(options, VAEOptions)
        if options.encodes and not prompt.strip():
            what = "interpolate_to" if options.interpolate_to is not None else "mode=reconstruct"
            raise OptionError(f"{what} without a prompt: there is no sentence to begin with", 'Give it: --prompt "…"')
        noise = torch.zeros(self.model.config.latent_size, dtype=torch.float32)
        if key is not None and options.draws:
            scale = 1.0 if options.z_temperature is None else options.z_temperature
            noise = scale * normal(torch.tensor([key]), len(noise))[0]
        if options.interpolate_to is not None:
            ends = self.posteriors([prompt, options.interpolate_to]).mean
            z = between(ends[0], ends[1], index / (options.texts - 1), options.path or "linear")
        elif options.encodes or options.z_of is not None:
            found = self.posteriors([prompt if options.encodes else str(options.z_of)])
            z = found.mean[0] + (0.5 * found.log_variance[0]).exp() * noise
        else:
            z = noise
        if options.z_add is not None:
            scale = 1.0 if options.z_scale is None else options.z_scale
            difference = Difference.read(Path(options.z_add), self.revision, len(z)).vector
            z = z + scale * torch.tensor(difference, dtype=torch.float32)
        if not bool(z.isfinite().all()):
            raise OptionError("z is beyond the numbers that there are", "Lower z_temperature or z_scale.")
        return z

    # Latents and estimates

    def sentences(self, texts: Iterable[str]) -> list[estimates.Sentence]:
        """The rows that the encoder reads of texts.

        Raises:
            DataError: a text holds half of a character, which no tokenizer takes.
        """
        from aigc_text.scoring.windows import whole

        begin, end = self.prompt_tokens("", self.Options()), self.tokenizer.eos_token_id
        plain = [whole(text).strip() for text in texts]
        ids = self.tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]
        return [estimates.Sentence([*begin, *row, end], len(begin)) for row in ids]

    def posteriors(self, texts: Iterable[str]) -> estimates.Posteriors:
        """Mean and log variance, (N, D) both, of the posterior of each text, in order."""
        with evaluation(self.model):
            return estimates.posteriors(self.model, self.sentences(texts))

    def difference(self, plus: tuple[str, torch.Tensor], minus: tuple[str, torch.Tensor]) -> Difference:
        """The mean of one group's vectors less that of another's, for the option `z_add`.

        Args:
            plus: a group's name and its vectors (N, D).
            minus: the same of the other group.
        """
        vector = plus[1].mean(0) - minus[1].mean(0)
        one, other = ((name, len(vectors)) for name, vectors in (plus, minus))
        return Difference(self.revision, one, other, tuple(vector.tolist()))

    def score(
        self,
        texts: Iterable[str],
        *,
        batch_size: int = 16,
        context: int | None = None,
        samples: int | None = None,
        seed: int = 0,
    ) -> Iterator[Score]:
        """Yields an estimate of a bound of each text's likelihood, or an importance-weighted estimate of it.

        Both are random, with a standard error (`Score.nll_se`): a single one may lie below the true value, on average
        neither does.

        Args:
            texts: plain strings; an empty one has its end only.
            batch_size: of no matter here: as many draws are looked at together as fit.
            context: refused, for a sentence is read whole.
            samples: draws of z for an estimate (Burda et al. 2016); without it the negative ELBO, whose
                expectation over z is estimated by the mean of ten draws.
            seed: of the draws; those of a text follow from (seed, its place).

        Raises:
            OptionError: `context`, or no samples.
            DataError: a text with half of a character.
        """
        if context is not None:
            raise OptionError(f"context {context}: a VAE has none, it reads a sentence whole", "Leave it out.")
        if samples is not None and samples < 1:
            raise OptionError(f"samples cannot be {samples}", "Allowed for samples: a whole number from 1")
        return in_evaluation(self.model, self._scores(texts, samples, seed))

    def _scores(self, texts: Iterable[str], samples: int | None, seed: int) -> Iterator[Score]:
        from aigc_text.scoring.totals import log_mean_exp

        for n, text in enumerate(texts):
            rows = self.sentences([text])
            own = estimates.posteriors(self.model, rows)
            z = own.draw(torch.tensor([stream_key(seed, n, 0)]), samples or estimates.BOUND_SAMPLES)  # (1, K, D)
            likelihood = estimates.log_likelihoods(self.model, rows[0], z[0])[None]  # (1, K)
            if samples is None:
                nll, error = float(estimates.negative_bound(likelihood, own)), estimates.bound_error(likelihood)
                kind = f"bound, estimated from {z.shape[1]} samples"
            else:
                log_likelihood, error = log_mean_exp(estimates.log_weights(likelihood, z, own)[0])
                nll, kind = -log_likelihood, f"importance-weighted, {samples} samples"
            yield Score(text=text, nll=nll, tokens=len(rows[0].ids) - rows[0].masked, kind=kind, nll_se=error)
