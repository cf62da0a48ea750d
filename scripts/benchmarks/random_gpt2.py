"""GPT-2 with random weights, for benchmarks: speed does not depend on the weights. And two ways to generate from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from aigc_text.generation.engine import Row

WORDS, PROMPT, NEW, TOP = 50_257, 16, 64, 50


def make(folder: Path, sizes: dict[str, int], words: int = WORDS) -> None:
    """A model with random weights and a tokenizer of as many words, whose text ends once in 60 tokens."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=words, bos_token_id=0, eos_token_id=0, pad_token_id=0, **sizes)
    ).eval()
    width = model.config.n_embd
    up = torch.nn.functional.normalize(torch.randn(width), dim=0)
    with torch.no_grad():
        model.transformer.ln_f.bias.copy_(20 * up)  # a part of every state that is always the same
        states = model.transformer(torch.randint(1, words, (8, 32))).last_hidden_state[:, -8:].flatten(0, 1)
        best = (states @ model.transformer.wte.weight[1:].T).topk(TOP).values  # (64, 50)
        wanted = (best.logsumexp(1) - math.log(59)).mean()  # the end's share among them is one in 60
        model.transformer.wte.weight[0] = up * wanted / 20
    model.save_pretrained(folder)
    known = Tokenizer(models.WordLevel({f"w{n}": n for n in range(words)}, unk_token="w1"))
    known.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=known, eos_token="w0", bos_token="w0", pad_token="w0").save_pretrained(
        folder
    )


def by_engine(backend: Any, ids: torch.Tensor, new: int = NEW, generator: Any = None) -> None:
    """Makes `new` tokens after each of the prompts (B, T) through our engine; none ends before.

    Args:
        generator: the CTranslate2 model to take, where it has been loaded already.
    """
    engine = backend.engine()
    config = engine.config(do_sample=True, top_k=TOP, max_new_tokens=new, min_new_tokens=new)
    if generator is not None:
        engine.generator = generator
    made = sum(len(e) for e in engine.decode([Row(r, n, new) for n, r in enumerate(ids.tolist())], config))
    assert made == ids.shape[0] * new, made


def by_generate(model: Any, ids: torch.Tensor, new: int = NEW) -> None:
    """The same through transformers' own `generate`."""
    ids, length = ids.to(model.device), {"max_new_tokens": new, "min_new_tokens": new}
    found = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=TOP, **length)
    assert found.shape == (len(ids), ids.shape[1] + new), found.shape


def prompts_of_ids(batch: int, words: int = WORDS) -> torch.Tensor:
    """(batch, 16) random tokens."""
    return torch.randint(1, words, (batch, PROMPT), generator=torch.Generator().manual_seed(batch))
