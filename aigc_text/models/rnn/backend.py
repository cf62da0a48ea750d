"""`rnn`: recurrent language models, LSTM or GRU (Mikolov et al. 2010; Zaremba et al. 2014; Merity et al. 2017).

`model` has the configuration and the model, `objective` what training minimises; here is what a user does with
them. Guide: docs/families.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.backends.hf.loading import fresh
from aigc_text.options.training import TrainingOptions
from aigc_text.outputs import Score
from aigc_text.utils.isolation import evaluation

from .model import RNNForCausalLM
from .objective import CarriedLikelihood, RecurrentLikelihood, RNNTraining, stream_nll

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedTokenizerBase

    from aigc_text.training.objective import Objective

UNLIMITED = 1 << 40  # tokens of context, more than any text has


class RNN(TransformersBackend):
    """Recurrent language models, trained here.

    Packed texts (the default) are read as one, the state carried along; with `packing` off each text is a row of its
    own, from zeros.
    """

    model_type = "aigc_text_rnn"
    Training: ClassVar[type[TrainingOptions]] = RNNTraining
    bundled = "rnn-captions"
    continuous = True
    scratch: ClassVar[dict[str, Any]] = {"learning_rate": 3e-3, "batch_size": 16, "block_size": 64}
    defaults: ClassVar[dict[str, Any]] = {"do_sample": True, "top_p": 0.95}

    @classmethod
    def from_scratch(cls, tokenizer: PreTrainedTokenizerBase, **config: Any) -> Self:
        """A model with random weights, of a size that two CPU cores can train.

        Args:
            tokenizer: decides the vocabulary and the end of a text.
            config: fields of `RNNConfig` (`cell`, `hidden_size`, `num_hidden_layers`, …). By default two LSTM layers of
                width 256.

        Raises:
            OptionError: a field that `RNNConfig` does not have, or a value that it cannot have.
        """
        cure = "See the fields of RNNConfig, e.g. -o cell=gru -o hidden_size=512 -o num_hidden_layers=2"
        model = fresh(RNNForCausalLM, tokenizer, config, cure, embedding_size=256, hidden_size=256)
        return cls(model, tokenizer)

    def objective(self, options: TrainingOptions) -> Objective:
        carried = options.packing is not False and not options.streaming
        penalties = [getattr(options, name, 0.0) for name in ("activation_penalty", "slowness_penalty")]
        return (CarriedLikelihood if carried else RecurrentLikelihood)(*penalties)

    def score_context(self) -> int:
        """Without limit: a text is read in one pass."""
        return UNLIMITED

    def token_nll(self, ids: torch.Tensor) -> torch.Tensor:
        return stream_nll(self.model, ids)

    def stream_score(self, texts: Iterable[str]) -> Score:
        """How well the model predicts texts that follow each other, the state carried from one to the next.

        As the published perplexities of recurrent models are measured: the whole test set in one row, nothing left
        out, the end of each text (a sentence, where the data is read by lines) counted as a token.
        """
        texts = list(texts)
        from aigc_text.data.encoding import encode

        tokens = encode(self.tokenizer, texts, self.tokenizer.eos_token_id).tolist()
        ids = torch.tensor([[*self.prompt_tokens("", self.Options()), *tokens]], device=self.model.device)
        with evaluation(self.model):
            nll = stream_nll(self.model, ids)[0, -len(tokens) :]  # (N,)
        return Score(text="".join(texts), nll=float(nll.double().sum()), tokens=len(tokens))
