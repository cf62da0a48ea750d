"""`gan`: a Gumbel-softmax text GAN (Kusner and Hernández-Lobato 2016; RelGAN, Nie et al. 2019).

Read in this order: `model` (generator and phases), `gumbel_softmax`, `relational_memory`, `discriminator`, `losses`,
`objective` (what is trained when), `collapse_monitor`; here is what a user does with it. Guide: docs/gan.md.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from aigc_text.backends.base import Capabilities
from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.backends.hf.loading import fresh
from aigc_text.data.encoding import SentenceEncoder, sentences, spread
from aigc_text.errors import OptionError
from aigc_text.generation.engine import stream_key
from aigc_text.generation.sampling import normal
from aigc_text.hub.loading import has_accelerator
from aigc_text.models.rnn.backend import UNLIMITED
from aigc_text.options.generation import GenerationOptions
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Score, duration
from aigc_text.utils.isolation import in_evaluation

from .collapse_monitor import REFERENCES, Watch
from .model import GANForCausalLM
from .objective import Adversarial, GANTraining

if TYPE_CHECKING:
    from typing import Self

    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from aigc_text.data.encoding import Encoder
    from aigc_text.data.sources import Example
    from aigc_text.training.objective import Objective
    from aigc_text.training.trainer import Evaluate

TRIAL = 3  # updates that say how long one takes
NOISE_SAMPLES = 10  # draws of the noise for a text's likelihood


class GAN(TransformersBackend):
    """A text GAN, trained here on sentences, each a row of its own."""

    model_type = "aigc_text_gan"
    Training: ClassVar[type[TrainingOptions]] = GANTraining
    capabilities = Capabilities(streaming=True, training=True, saving=True, sentences=True, likelihood="exact")
    packing = False
    sample_by = "line"
    scratch: ClassVar[dict[str, Any]] = {"learning_rate": 3e-3, "batch_size": 32, "block_size": 64}
    #: Sizes of a model from scratch where there is no accelerator; with one they are those of `GANConfig`.
    cpu_sizes: ClassVar[dict[str, Any]] = {
        "hidden_size": 256, "representations": 8, "discriminator_size": 32, "filters": 100,
    }  # fmt: skip
    bundled = "gan-captions"
    defaults: ClassVar[dict[str, Any]] = {"do_sample": True, "top_k": 0}
    model: GANForCausalLM

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(model, tokenizer)
        if self.model.config.noise_size:
            estimate: Any = dataclasses.replace(type(self).capabilities, likelihood="importance-weighted")
            self.capabilities = estimate  # type: ignore[misc]

    @classmethod
    def from_scratch(cls, tokenizer: PreTrainedTokenizerBase, **config: Any) -> Self:
        """A model with random weights. Without an accelerator it is of a size that two CPU cores can train.

        Args:
            tokenizer: decides the vocabulary and the end of a text.
            config: fields of `GANConfig` (`cell`, `hidden_size`, `representations`, …).

        Raises:
            OptionError: a field that `GANConfig` does not have, or a value that it cannot have.
        """
        cure = "See the fields of GANConfig, e.g. -o cell=memory -o filters=100"
        sizes = {} if has_accelerator() else cls.cpu_sizes
        return cls(fresh(GANForCausalLM, tokenizer, config, cure, **sizes), tokenizer)

    # Training

    def objective(self, options: TrainingOptions) -> Objective:
        if self.model.discriminator is None and getattr(options, "likelihood_steps", None) is None:
            given = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
            options = GANTraining(**{**given, "likelihood_steps": options.max_steps})  # nothing else can be done
        objective = Adversarial(options, {"length": self.block_size(options) - 1})
        if objective.options.warm < options.max_steps:
            self.model.judge()  # told before anything is trained
        return objective

    def announcement(self, batches: Iterable[Any], options: TrainingOptions) -> str:
        """How many updates both phases have and how long they take, from trial updates of a copy of the model."""
        objective = self.objective(options)
        assert isinstance(objective, Adversarial)
        warm = min(objective.options.warm, options.max_steps)
        phases = [("likelihood", warm, TRIAL), ("adversarial", options.max_steps - warm, 0)]
        timed = [(name, count, self._seconds(batches, options, given)) for name, count, given in phases if count]
        parts = " and ".join(f"{count} {name} updates of {seconds:.2g} s" for name, count, seconds in timed)
        return f"about {duration(sum(count * seconds for _, count, seconds in timed))} and its validations: {parts}"

    def _seconds(self, batches: Iterable[Any], options: TrainingOptions, likelihood_steps: int) -> float:
        """The time of an update of one phase; the first sets things up and does not count."""
        from aigc_text.training import trainer

        known = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
        changed = {"max_steps": TRIAL, "likelihood_steps": likelihood_steps, "eval_on_start": False}
        trial = GANTraining(**{**known, **changed, "deliver": "last", "early_stopping": None, "schedule": "constant"})
        objective = Adversarial(trial, {"length": self.block_size(options) - 1})
        times = [time.perf_counter() for _ in trainer.train(copy.deepcopy(self.model), objective, batches, trial)]
        return min(after - before for before, after in itertools.pairwise(times))

    def encoder(self, options: TrainingOptions) -> Encoder:
        from aigc_text.data.tokenizer_training import unknown_token

        long, unknown = getattr(options, "long_sentences", "cut"), unknown_token(self.tokenizer)
        begin = self.prompt_tokens("", self.Options())
        arguments = (self.tokenizer, self.block_size(options), begin, self.pair_tokens)
        return SentenceEncoder(*arguments, long_sentences=long, unknown=unknown)

    def batches(self, examples: Iterable[Example], options: TrainingOptions) -> Iterable[Any]:
        """Sentences in random order: in batches of one length the discriminator would learn the length."""
        from aigc_text.data.pipeline import batches_of

        encoder = self.encoder(options)
        return batches_of(encoder, examples, options, self.packing, self.pad(), by_length=False)

    def validator(self, examples: Iterable[Example], options: TrainingOptions) -> Evaluate:
        from aigc_text.training.validation import ScoreValidation, Validation
        from aigc_text.training.validation_rows import validation_rows

        texts, encoder = sentences(examples), self.encoder(options)
        likelihood: Evaluate
        if self.model.config.noise_size:
            likelihood = ScoreValidation(
                [texts[n] for n in spread(len(texts), options.eval_blocks)], self.score, self.tokenizer
            )
        else:
            context = self.score_context()
            rows = validation_rows(encoder, texts, options, self.packing, context, self.template.before)
            likelihood = Validation(rows, self.token_nll, self.tokenizer, self.pad(), encoder.notes)
        count, length = getattr(options, "watch_samples", 0), self.block_size(options) - 1

        def draw() -> Sequence[str]:
            found = self.generate(
                [""], num_return_sequences=count, seed=0, temperature=1.0, top_k=0, top_p=1.0, do_sample=True,
                max_new_tokens=length, batch_size=128,
            )  # fmt: skip
            return [completion.text for completion in found]

        references = [text for n in spread(len(texts), REFERENCES) if (text := texts[n].strip())]
        return Watch(likelihood, draw if count > 1 else None, references)

    # Noise, where the model has any

    def draws(self, config: GenerationConfig, options: GenerationOptions) -> bool:
        return super().draws(config, options) or self.model.config.noise_size > 0

    def row_inputs(
        self, prompt: str, options: GenerationOptions, key: int | None, index: int = 0
    ) -> dict[str, torch.Tensor]:
        size = self.model.config.noise_size
        if not size:
            return {}
        zeros = torch.zeros(size, dtype=torch.float32)
        return {"noise": normal(torch.tensor([key]), size)[0] if key is not None else zeros}

    def score_context(self) -> int:
        """Without limit: a text is read in one pass."""
        return UNLIMITED

    def score(self, texts: Iterable[str], *, batch_size: int = 16, context: int | None = None) -> Iterator[Score]:
        """As other models do, exactly; with noise an estimate: -log of the mean of p(x | noise) over ten draws of it.

        On average that is at least -log p(x), and nearer to it with every draw.

        Args:
            texts: plain strings; an empty one has its end only.
            batch_size: most windows at once.
            context: tokens of a window; refused with noise, where a sentence is read whole.

        Raises:
            OptionError: `context` for a model with noise.
            DataError: a text with half of a character.
        """
        if not self.model.config.noise_size:
            return super().score(texts, batch_size=batch_size, context=context)
        if context is not None:
            raise OptionError(f"context {context}: with noise a sentence is read whole", "Leave it out.")
        return in_evaluation(self.model, self._estimates(texts))

    @torch.no_grad()
    def _estimates(self, texts: Iterable[str]) -> Iterator[Score]:
        from aigc_text.scoring.totals import log_mean_exp
        from aigc_text.scoring.windows import whole
        from aigc_text.training.losses import token_nll

        begin = self.prompt_tokens("", self.Options())
        for n, text in enumerate(texts):
            own = self.tokenizer(whole(text), add_special_tokens=False, verbose=False)["input_ids"]
            ids = torch.tensor([*begin, *own, self.tokenizer.eos_token_id], device=self.model.device)
            keys = torch.tensor([stream_key(0, n, k) for k in range(NOISE_SAMPLES)])
            noise = normal(keys, self.model.config.noise_size).to(self.model.device)  # (K, D)
            rows = ids.expand(NOISE_SAMPLES, -1)
            outputs, _ = self.model.read(rows[:, :-1], noise)
            logits = self.model.logits(outputs[:, len(begin) - 1 :])
            targets = rows[:, len(begin) :]
            nll = token_nll(logits.flatten(0, 1), targets.flatten()).view(targets.shape).double().sum(1)  # (K,)
            found, error = log_mean_exp(-nll)
            kind = f"importance-weighted, {NOISE_SAMPLES} samples"
            yield Score(text=text, nll=-found, tokens=targets.shape[1], kind=kind, nll_se=error)
