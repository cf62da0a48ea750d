"""Chat templates: generation puts prompts into them, and training learns what follows in them, no more and no less."""

import pytest
import tiny
import torch

from aigc_text.data.sources import Pair
from aigc_text.data.tokenizer_training import INFILLING
from aigc_text.errors import ModelError, OptionError
from aigc_text.models.causal_lm import GPT2, Code
from aigc_text.training import trainer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ASKED = "<|im_start|>user\nwho sat?<|im_end|>\n<|im_start|>assistant\n"
PAIR = Pair("who sat?", "the cat")


def _backend(template=CHATML, cls=GPT2, special=()):
    tokens = tiny.tokenizer(("<|im_start|>", "<|im_end|>", *special))
    tokens.chat_template = template
    return cls(tiny.model("gpt2", tokens), tokens)


def _decoded(backend, ids):
    return backend.tokenizer.decode(ids)


def test_a_prompt_goes_into_the_template():
    backend = _backend()
    ids = backend.prompt_tokens("who sat?", backend.Options(chat=True))
    assert _decoded(backend, ids) == ASKED
    assert backend.prompt_tokens("who sat?", backend.Options()) == backend.tokenizer("who sat?")["input_ids"]
    assert backend.held_back("who? ", backend.Options(chat=True)) == ""
    (said,) = backend.generate(["who sat? "], chat=True, max_new_tokens=5, do_sample=False)
    (plain,) = backend.generate([ASKED.replace("?", "? ")], max_new_tokens=5, do_sample=False)
    assert said.prompt == "who sat? " and plain.prompt != said.prompt


def test_what_the_template_adds_after_the_prompt_is_learned():
    backend = _backend()
    before, after = backend.pair_tokens(*PAIR)
    assert before == backend.prompt_tokens(PAIR.prompt, backend.Options(chat=True))
    assert _decoded(backend, after) == "the cat<|im_end|>\n" + backend.tokenizer.eos_token
    batch = next(iter(backend.batches([PAIR], backend.Training(block_size=64))))
    assert batch["input_ids"].tolist() == [[*before, *after]]
    assert batch["labels"].tolist() == [[-100] * len(before) + after]


def test_a_template_that_ends_with_the_end_of_text_gets_no_second_one():
    backend = _backend(CHATML.replace("<|im_end|>", "<|endoftext|>"))
    before, after = backend.pair_tokens(*PAIR)
    assert _decoded(backend, after) == "the cat<|endoftext|>\n"


@pytest.mark.parametrize(
    ("template", "learned"),
    [
        # The tokens of prompt and answer run into one another: what the text adds is tokenised alone.
        ("{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}", "the cat <|endoftext|>"),
        # The prompt is given something that an answer does not have: the completion alone.
        (CHATML.replace("assistant\\n", "assistant\\n<think>"), "the cat<|endoftext|>"),
    ],
)
def test_where_an_answer_does_not_go_on_from_its_prompt_generation_decides(template, learned):
    backend = _backend(template)
    before, after = backend.pair_tokens(*PAIR)
    assert before == backend.prompt_tokens(PAIR.prompt, backend.Options(chat=True))
    assert _decoded(backend, after) == learned


def test_without_a_template_chat_is_refused_and_pairs_are_plain():
    backend = _backend(None)
    with pytest.raises(OptionError, match="no chat template") as refused:
        list(backend.generate(["a"], chat=True))
    assert refused.value.cure == "Leave chat out, or use a chat model."
    assert _decoded(backend, backend.pair_tokens(*PAIR)[0]) == PAIR.prompt


def test_a_template_that_fails_is_one_error():
    backend = _backend("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ModelError, match="roles must alternate") as refused:
        backend.batches([PAIR], backend.Training(block_size=64))
    assert "chat_template" in refused.value.cure


def test_code_in_a_chat_is_not_a_continuation():
    backend = _backend(cls=Code, special=INFILLING[0])
    prompt = "def f(x):\n"
    assert backend.stop_strings(prompt, backend.Options())
    assert not backend.stop_strings(prompt, backend.Options(chat=True))
    with pytest.raises(OptionError, match="chat and suffix"):
        list(backend.generate([prompt], chat=True, suffix="return"))


@pytest.mark.parametrize("template", [None, CHATML])
def test_a_model_answers_as_it_was_taught(template):
    backend = _backend(template)
    pairs = [Pair("who sat?", " the cat"), Pair("where?\n", "    on the log"), Pair("whose dog? ", "the king")]
    options = backend.Training(block_size=64, batch_size=3, max_steps=150, learning_rate=1e-2, warmup_steps=5)
    run = trainer.train(backend.model.train(), backend.objective(options), backend.batches(pairs, options), options)
    losses = [p.logs["loss"] for p in run]
    assert losses[-1] < 0.1 < 1 < losses[0]
    chat = {"chat": True} if template else {}
    said = backend.generate([p.prompt for p in pairs], do_sample=False, max_new_tokens=20, **chat)
    assert [(c.text.strip(), c.finish_reason) for c in said] == [(p.completion.strip(), "stop") for p in pairs]
    with torch.no_grad():
        figures = backend.validator(pairs, options)(backend.model)
    assert figures["loss"] < 0.05 and figures["bits_per_byte"] < 0.2


def test_only_completions_are_validated():
    backend = _backend(None)
    options = backend.Training(block_size=64)
    validator = backend.validator([PAIR, Pair("x" * 40, "the cat")], options)
    assert validator.utf8_bytes == 2 * len("the cat")
    assert [row.masked for row in validator.rows] == [len(backend.pair_tokens(*PAIR)[0]), 40]
    assert list(validator.notes) == []
