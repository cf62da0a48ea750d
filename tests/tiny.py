"""Tiny random models of several architectures, made on the spot: no test downloads anything."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    CodeGenConfig,
    CodeGenForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from aigc_text.tokenizer import train_bpe

SENTENCES = [
    "the cat sat on the mat and the dog sat on the log.",
    "once upon a time there was a king who had a daughter.",
    "def add(a, b):\n    return a + b\n",
    "从前有一个国王，他有一个女儿。 🙂 naïve café",
]
CONTEXT = 64
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}

CAUSAL = {
    "gpt2": (GPT2LMHeadModel, GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}),
    "codegen": (
        CodeGenForCausalLM,
        CodeGenConfig,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "n_ctx": CONTEXT, "rotary_dim": 4},
    ),
    "gpt_bigcode": (
        GPTBigCodeForCausalLM,
        GPTBigCodeConfig,
        {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT},
    ),
    "starcoder2": (
        Starcoder2ForCausalLM,
        Starcoder2Config,
        {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT},
    ),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}),
    "llama": (LlamaForCausalLM, LlamaConfig, {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}),
}
OTHERS = {
    "t5": (
        T5ForConditionalGeneration,
        T5Config,
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    ),
    "bert": (BertForMaskedLM, BertConfig, {**SMALL, "max_position_embeddings": CONTEXT}),
}


def tokenizer(special: tuple[str, ...] = ()):
    return train_bpe(SENTENCES * 4, 300 + len(special), CONTEXT, special)


def model(kind: str, tokens, seed: int = 0):
    """A random model, its weights large enough that its texts are not one token over and over."""
    make, config, sizes = {**CAUSAL, **OTHERS}[kind]
    end = tokens.eos_token_id
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    if kind == "t5":
        ids["decoder_start_token_id"] = end
    torch.manual_seed(seed)
    made = make(config(vocab_size=len(tokens), **sizes, **ids)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3)
    made.tie_weights()
    return made


def save(kind: str, folder: Path, special: tuple[str, ...] = ()) -> Path:
    """A folder as the hub would have it."""
    tokens = tokenizer(special)
    model(kind, tokens).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder
