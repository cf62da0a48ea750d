"""`gpt2` and `code`: any causal language model of transformers, pretrained or trained here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.backends.hf.loading import fresh, width_and_heads
from aigc_text.data.prompt_encoding import cut_left, inner_ids, plain_ids
from aigc_text.errors import OptionError, shell
from aigc_text.generation import chat_templates
from aigc_text.generation.detokenizer import FUNCTION_END
from aigc_text.options.base import option
from aigc_text.options.generation import GenerationOptions

if TYPE_CHECKING:
    from typing import Self

    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class CausalOptions(GenerationOptions):
    """Generation options of causal language models."""

    chat: bool | None = option(None, "Put the prompt into the model's chat template.")


class CausalLM(TransformersBackend):
    """What `gpt2` and `code` share: training from scratch, and chat templates."""

    Options: ClassVar[type[GenerationOptions]] = CausalOptions
    engines = ("torch", "ctranslate2")
    scratch: ClassVar[dict[str, Any]] = {"learning_rate": 1e-3, "batch_size": 4}

    @classmethod
    def from_scratch(cls, tokenizer: PreTrainedTokenizerBase, **config: Any) -> Self:
        """A GPT-2 architecture with random weights, of a size that two CPU cores can train.

        Args:
            tokenizer: decides the vocabulary and the end of a text.
            config: fields of `GPT2Config` (`n_layer`, `n_head`, `n_embd`, `n_positions`, …). By default 4 layers of
                width 192 and a context of 256 tokens: 2.6 million parameters with 4,096 entries of the vocabulary.
                `n_head` follows from the width.

        Raises:
            OptionError: a field that `GPT2Config` does not have, or sizes that do not fit each other.
        """
        from transformers import GPT2LMHeadModel

        cure = "See the fields of GPT2Config, e.g. -o n_layer=6; n_embd must be a multiple of n_head."
        width, heads = width_and_heads(config.get("n_embd"), 192)
        defaults: dict[str, Any] = {"n_layer": 4, "n_embd": width, "n_head": heads, "n_positions": 256}
        defaults |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        # GPT-2's gelu_new in one kernel instead of eight
        model = fresh(GPT2LMHeadModel, tokenizer, config, cure, activation_function="gelu_pytorch_tanh", **defaults)
        tokenizer.model_max_length = model.config.n_positions
        return cls(model, tokenizer)

    def prompt_tokens(self, prompt: str, options: GenerationOptions) -> list[int]:
        if not getattr(options, "chat", None):
            return super().prompt_tokens(prompt, options)
        return chat_templates.prompt_tokens(self.tokenizer, prompt)

    def held_back(self, prompt: str, options: GenerationOptions) -> str:
        """Nothing in a chat template, where the prompt is not what the text goes on from."""
        return "" if getattr(options, "chat", None) else super().held_back(prompt, options)

    def pair_tokens(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """In the chat template if there is one, for then the prompts of generation belong there too."""
        if not self.tokenizer.chat_template:
            return super().pair_tokens(prompt, completion)
        return chat_templates.pair_tokens(self.tokenizer, prompt, completion)


class GPT2(CausalLM):
    """Any causal language model for prose."""

    hub_id = "openai-community/gpt2"
    bundled = "gpt2-tales"
    # GPT-2 itself says nothing about sampling, and repeats itself when it takes the likeliest token.
    defaults: ClassVar[dict[str, Any]] = {"do_sample": True, "top_p": 0.95}


@dataclass(frozen=True, kw_only=True)
class CodeOptions(CausalOptions):
    """Generation options of the code backend."""

    suffix: str | None = option(None, "What follows the gap: fill in the middle between prompt and suffix.")
    stop_at_function_end: bool | None = option(
        None, "End where the prompt's open function ends (on unless you say false)."
    )


class Code(CausalLM):
    """Causal language models for code: a function's completion ends where the function ends."""

    Options = CodeOptions
    capabilities = replace(CausalLM.capabilities, infilling=True)
    hub_id = "Qwen/Qwen2.5-Coder-0.5B"
    bundled = "gpt2-python"

    def prompt_tokens(self, prompt: str, options: GenerationOptions) -> list[int]:
        suffix = getattr(options, "suffix", None)
        if suffix is None:
            return super().prompt_tokens(prompt, options)
        if getattr(options, "chat", None):
            raise OptionError("chat and suffix do not go together", "Ask for the one or for the other.")
        before, after, middle = self._infilling_tokens()
        head, tail = plain_ids(self.tokenizer, prompt), inner_ids(self.tokenizer, suffix)
        return [*self.template.before, before, *head, after, *tail, middle]  # prefix-suffix-middle order

    def shortened(self, tokens: list[int], most: int, options: GenerationOptions) -> list[int]:
        """As for other prompts, but for a gap: its tokens stay, what is before it is cut on the left, then the rest."""
        if getattr(options, "suffix", None) is None:
            return super().shortened(tokens, most, options)
        before, after, middle = self._infilling_tokens()
        front, gap = [*self.template.before, before], tokens.index(after, len(self.template.before))
        tail = tokens[gap:-1][: max(1, most - len(front) - 1)]
        return [*cut_left(tokens[:gap], most - len(tail) - 1, front), *tail, middle]

    def held_back(self, prompt: str, options: GenerationOptions) -> str:
        return "" if getattr(options, "suffix", None) is not None else super().held_back(prompt, options)

    def stop_strings(self, prompt: str, options: GenerationOptions) -> Sequence[str]:
        asked = super().stop_strings(prompt, options)
        wanted = getattr(options, "stop_at_function_end", None) is not False
        continues = getattr(options, "suffix", None) is None and not getattr(options, "chat", None)
        return (*asked, *FUNCTION_END) if wanted and continues and inside_function(prompt) else asked

    def _infilling_tokens(self) -> tuple[int, int, int]:
        from aigc_text.data.tokenizer_training import infilling_tokens

        if (found := infilling_tokens(self.tokenizer)) is None:
            raise OptionError(
                f"model {self.source!r} has no tokens to fill in the middle, so it cannot take a suffix",
                shell("Use a model that has them, such as --model {}", self.hub_id),
            )
        return found


def inside_function(prompt: str) -> bool:
    """Whether the prompt's last line at the margin opens a function, method or class."""
    margin = [line for line in re.split(r"\r\n|\r|\n", prompt) if re.match(r"[^\s#)\]}]", line)]
    return bool(margin) and re.match(r"(async\s+def|def|class)\b", margin[-1]) is not None
