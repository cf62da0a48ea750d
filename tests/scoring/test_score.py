"""The likelihood of texts and tokens: transformers' own loss, whatever the batch, the window and the tokenizer."""

import math

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer

from aigc_text import Score, TokenScore, load
from aigc_text.backends.base import Backend
from aigc_text.data.tokenizer_training import train
from aigc_text.errors import BackendError, DataError, OptionError
from aigc_text.models.causal_lm import GPT2
from aigc_text.scoring import windows
from aigc_text.scoring.totals import total
from aigc_text.testing.contract import ContractError, check_backend

LONG = "the cat sat on the mat and the dog sat on the log. " * 20


@pytest.fixture(scope="module")
def backend():
    tokens = tiny.tokenizer()
    return GPT2(tiny.model("gpt2", tokens), tokens)


def of(kind):
    """A tiny backend by the kind of its tokenizer; ByT5's is a plain Python one, that knows no offsets."""
    tokens = {"bpe": tiny.tokenizer, "python": ByT5Tokenizer}.get(kind, lambda: train(kind, tiny.SENTENCES))()
    return GPT2(tiny.model("gpt2", tokens), tokens)


def test_a_saved_model_scores_as_transformers_own_loss(tmp_path):
    folder = tiny.save("gpt2", tmp_path / "m")
    texts = [*tiny.SENTENCES, "", "a"]
    model, tokens = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    end = tokens.eos_token_id
    for score in load(model=str(folder)).score(texts):
        ids = torch.tensor([[end, *tokens(score.text)["input_ids"], end]])
        with torch.no_grad():
            loss = model(input_ids=ids, labels=ids).loss.item()
        assert score.nll / score.tokens == pytest.approx(loss, rel=1e-5)
        assert score.tokens == ids.shape[1] - 1
        assert score.kind == "exact"


def test_a_long_text_is_read_in_windows_that_move_by_half(backend):
    end, pad = backend.tokenizer.eos_token_id, 7
    ids = [end, *backend.tokenizer(LONG)["input_ids"], end]
    expected = torch.zeros(len(ids) - 1)
    first, last = 0, tiny.CONTEXT
    done = 1
    while done < len(ids):
        window = torch.tensor([[*ids[first:last], pad]])[:, :-1]
        with torch.no_grad():
            chances = backend.model(window).logits[0, :-1].log_softmax(-1)
        nll = -chances.gather(1, window[0, 1:, None])[:, 0]
        expected[done - 1 : min(last, len(ids)) - 1] = nll[done - first - 1 :]
        done = min(last, len(ids))
        last = min(last + tiny.CONTEXT // 2, len(ids))
        first = last - tiny.CONTEXT
    [score] = backend.score([LONG])
    assert [t.nll for t in score.per_token] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-4)
    assert score.nll == pytest.approx(sum(t.nll for t in score.per_token))


def test_batches_and_windows_of_work_change_nothing(backend, monkeypatch):
    texts = [LONG[: n * 7] for n in range(40)] + [LONG]
    alone = [s for t in texts for s in backend.score([t])]
    monkeypatch.setattr(windows, "WINDOW", 2)
    for size in (1, 3, 16):
        together = list(backend.score(iter(texts), batch_size=size))
        assert [s.text for s in together] == texts
        assert [s.nll for s in together] == pytest.approx([s.nll for s in alone], rel=1e-4)
    monkeypatch.setattr(windows, "ELEMENTS", 1)  # memory for one window at a time
    assert [s.nll for s in backend.score(texts)] == pytest.approx([s.nll for s in alone], rel=1e-5)


def test_texts_are_given_as_soon_as_they_are_scored(backend, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW", 1)
    read = []
    found = backend.score((read.append(t) or t for t in [LONG[:9]] * 1000), batch_size=2)
    next(found)
    assert len(read) <= 128


def test_a_shorter_window_can_be_asked_for_and_a_longer_one_cannot(backend):
    [short], [whole] = backend.score([LONG], context=8), backend.score([LONG])
    assert short.tokens == whole.tokens and short.nll != whole.nll
    [least] = backend.score([LONG], context=2)
    assert least.tokens == whole.tokens
    for context in (1, tiny.CONTEXT + 1):
        with pytest.raises(OptionError, match=f"context cannot be {context}"):
            backend.score([LONG], context=context)


@pytest.mark.parametrize("kind", ["bpe", "char", "python"])
@settings(max_examples=25, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00<>"), max_size=30))
def test_the_tokens_of_a_text_cover_it(kind, text):
    """Those that lose nothing; spans come in order, and each character belongs to the last of its tokens."""
    [score] = CACHE.setdefault(kind, of(kind)).score([text])
    pieces = [text[t.start : t.end] for t in score.per_token]
    if kind == "python":  # ByT5 leaves out what it cannot decode
        at = 0
        for t in score.per_token:
            assert at <= t.start <= t.end <= len(text)
            at = t.end
    else:
        assert "".join(pieces) == text
    assert score.per_token[-1].start == score.per_token[-1].end == len(text)


CACHE: dict[str, GPT2] = {}


@pytest.mark.parametrize("kind", ["bpe", "char", "python"])
def test_a_character_of_several_tokens_ends_with_the_last_of_them(kind):
    [score] = of(kind).score(["ΔΣ🙃 y"])
    whole = [score.text[t.start : t.end] for t in score.per_token if t.end > t.start]
    assert "".join(whole) == "ΔΣ🙃 y" and "🙃" in whole
    before = [t for t in score.per_token if t.start == t.end == 2]
    assert len(before) == 3  # four bytes, the last of which shows the character


def test_words_keep_their_places_between_white_space():
    [score] = of("word").score(["the  cat\nzebra 🙂"])
    assert [score.text[t.start : t.end] for t in score.per_token] == ["the", "cat", "\n", "zebra", "🙂", ""]
    assert [(t.start, t.end) for t in score.per_token[:2]] == [(0, 3), (5, 8)]


def test_without_an_end_token_the_end_is_not_scored():
    backend = of("char")
    backend.tokenizer.eos_token = None
    empty, some = backend.score(["", "cat"])
    assert (empty.tokens, empty.nll, empty.per_token) == (0, 0.0, ())
    assert some.tokens == 3


def test_half_a_character_is_refused(backend):
    with pytest.raises(DataError, match="half of a character at position 3"):
        list(backend.score(["cat", "cat\ud83d"]))


class Silent(Backend):
    from_pretrained = None

    def generate(self, prompts, options=None, **overrides):
        return iter(())


def test_a_backend_without_likelihood_says_who_has_one_before_it_reads_anything():
    silent = type("Silent", (Silent,), {"from_pretrained": classmethod(lambda cls: cls())})()
    silent.name = "silent"
    with pytest.raises(BackendError, match="'silent' has no likelihood") as refused:
        silent.score(iter(lambda: pytest.fail("was read"), None))
    assert "gpt2, code" in refused.value.cure


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precisions_agree(kind, dtype):
    tokens = tiny.tokenizer()
    [exact] = GPT2(tiny.model(kind, tokens), tokens).score([LONG])
    [found] = GPT2(tiny.model(kind, tokens).to(dtype), tokens).score([LONG])
    assert found.nll == pytest.approx(exact.nll, rel=2e-2)


# The contract catches


class Scoring(GPT2):
    """Breaks one promise."""

    def score(self, texts, **how):
        for n, s in enumerate(super().score(texts, **how)):
            values = {"text": s.text, "nll": s.nll, "tokens": s.tokens, "kind": s.kind, "per_token": s.per_token}
            yield Score(**{**values, **self.broken(n, s)})


def outside(token):
    return TokenScore(start=99, end=99, nll=token.nll)


BREAKS = {
    "order": (lambda self, n, s: {"text": s.text[::-1]}, "order of the texts"),
    "kind": (lambda self, n, s: {"kind": "bound"}, "a score says 'bound'"),
    "sum": (lambda self, n, s: {"nll": s.nll + 0.01}, "do not add up"),
    "infinite": (lambda self, n, s: {"nll": math.inf}, "nll inf"),
    "count": (lambda self, n, s: {"tokens": s.tokens + 1}, "in per_token"),
    "place": (lambda self, n, s: {"per_token": (*s.per_token[:-1], outside(s.per_token[-1]))}, "lie outside"),
    "company": (lambda self, n, s: {"nll": s.nll + n, "per_token": ()}, "alone and"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BREAKS)
def test_the_contract_catches(broken, backend):
    breaks, says = BREAKS[broken]
    cls = type("Broken", (Scoring,), {"broken": breaks})
    with pytest.raises(ContractError, match=says):
        list(check_backend(cls(backend.model, backend.tokenizer)))


def test_the_contract_catches_capabilities_that_do_not_hold(backend):
    from dataclasses import replace

    mute = type("Mute", (GPT2,), {"score": lambda self, texts: Backend.score(self, texts)})
    with pytest.raises(ContractError, match="but it does not score"):
        list(check_backend(mute(backend.model, backend.tokenizer)))
    without = replace(GPT2.capabilities, likelihood="")
    shy = type("Shy", (GPT2,), {"score": lambda self, texts: iter([Score(text=t, nll=1.0, tokens=1) for t in texts])})
    shy.capabilities = without
    with pytest.raises(ContractError, match="name no likelihood"):
        list(check_backend(shy(backend.model, backend.tokenizer)))


# Sums


def test_sums_name_their_kinds_and_count_ends_as_words():
    found = total([Score(text="ab c", nll=8.0, tokens=3), Score(text="", nll=2.0, tokens=1, kind="bound")])
    assert (found.texts, found.tokens, found.words, found.utf8_bytes) == (2, 4, 4, 4)
    assert found.kind == "exact and bound"
    assert found.bits_per_byte == pytest.approx(10 / math.log(2) / 4)
    assert found.perplexity == pytest.approx(math.exp(10 / 4))
    assert found.perplexity_per_word == pytest.approx(math.exp(10 / 4))
    assert found.nats_per_text_se == pytest.approx(3.0)  # 8 and 2: sd √18, over √2


@pytest.mark.parametrize(
    ("text", "has_words"),
    [
        ("the cat sat", True), ("été à Łódź", True), ("x = 1", True), ("1 2 3", True), ("она спит", True),
        ("今天天气很好", False), ("明月 松间照", False), ("cat 猫", False), ("สวัสดี", False),
        ("A letter of twenty-one pages about 月", True),
    ],
)  # fmt: skip
def test_a_figure_per_word_only_where_spaces_separate_words(text, has_words):
    found = total([Score(text=text, nll=6.0, tokens=3)])
    assert found.perplexity_per_character == pytest.approx(math.exp(6 / (len(text) + 1)))
    assert (found.perplexity_per_word is not None) is has_words is found.has_words
    from aigc_text.cli.score import _figures

    assert ("a word" in _figures(found)) is has_words and ("a character" in _figures(found)) is not has_words


def test_sums_without_bytes_or_texts_divide_by_nothing():
    empty = total([Score(text="", nll=2.0, tokens=1)])
    assert (
        empty.bits_per_byte is None and empty.bits_per_byte_se is None and empty.perplexity == pytest.approx(math.e**2)
    )
    nothing = total([])
    assert (nothing.texts, nothing.perplexity, nothing.perplexity_per_word) == (0, None, None)
    assert total([Score(text="a", nll=1e9, tokens=1)]).perplexity == pytest.approx(math.exp(700))


def test_the_error_of_bits_per_byte_is_that_of_drawing_the_texts_again():
    import numpy as np

    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 200, 400)
    scores = [Score(text="a" * n, nll=float(n * rng.normal(1.0, 0.2) + 3), tokens=1) for n in sizes]
    drawn = [total([scores[i] for i in rng.integers(0, 400, 400)]).bits_per_byte for _ in range(300)]
    assert total(scores).bits_per_byte_se == pytest.approx(np.std(drawn), rel=0.15)
