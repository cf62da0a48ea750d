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
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from aigc_text.data.tokenizer_training import train_bpe

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


NAMES = {"Name", "Anna", "me", "Na", "今天", "天气", "很好"}
WORDS = sorted({w.strip(".,:") for s in SENTENCES for w in s.split()} | NAMES)
LETTERS = sorted({c for s in [*SENTENCES, *WORDS, "今天气很好,:;?!"] for c in s if not c.isspace()})


def _fast(core, template: bool, **names):
    """A fast tokenizer, with a template that puts BOS before a text, as Llama has it, if it is asked for."""
    from tokenizers import processors

    if template:
        ids = [(t, core.token_to_id(t)) for t in ("<s>", "</s>")]
        core.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=ids[:1])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=CONTEXT, **names
    )


def sentencepiece(prepend: str, template: bool = True, special: tuple[str, ...] = ()):
    """BPE as in Llama and Mistral: spaces are `▁`, and other characters than those known are bytes.

    Args:
        prepend: what puts `▁` before a text: the `normalizer`, as in Llama 2 and Mistral 0.1; `metaspace`, its
            successor; or nothing at all, `""`.
        template: whether `<s>` begins a text.
        special: further special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    first = ["<unk>", "<s>", "</s>", *special, *(f"<0x{n:02X}>" for n in range(256)), "▁", *LETTERS]
    vocabulary, merges = dict.fromkeys(first), {}
    for word in WORDS:
        for letters in (["▁", *word], list(word)):
            while len(letters) > 1:
                merges[letters[0], letters[1]] = None
                letters = [letters[0] + letters[1], *letters[2:]]
                vocabulary[letters[0]] = None
    ids = {piece: n for n, piece in enumerate(vocabulary)}
    core = Tokenizer(models.BPE(ids, list(merges), unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", "▁")
    spaces = decoders.Replace("▁", " ")
    last = [decoders.Strip(" ", 1, 0)] if prepend else []
    if prepend == "normalizer":
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
    elif prepend == "metaspace":
        core.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    else:
        core.normalizer = replace
    core.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse(), *last])
    return _fast(core, template, extra_special_tokens=list(special))


def wordpiece(template: bool = False):
    """As in BERT: pieces of words, those inside a word with `##`; spaces are lost, and decoding puts them back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = [p for w in [*WORDS, *LETTERS, "x", "q"] for p in (w, f"##{w}")]
    ids = {piece: n for n, piece in enumerate(dict.fromkeys(["<unk>", "<s>", "</s>", *pieces]))}
    core = Tokenizer(models.WordPiece(ids, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(cleanup=False)
    return _fast(core, template)


def prefixed_bytes():
    """Byte-level BPE that puts a space before a text, as in RoBERTa."""
    from tokenizers import decoders, pre_tokenizers

    made = train_bpe(SENTENCES * 4, 300, CONTEXT)
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.backend_tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    return made
