"""What is empty or 0 was given all the same: it means what it says, or is refused; it never means the default."""

import pytest

from aigc_text import Backend, Completion, load
from aigc_text.api import from_scratch
from aigc_text.api import generate as generated
from aigc_text.data.tokenizer_training import train
from aigc_text.errors import OptionError, UserError
from aigc_text.evaluation.options import EvaluationOptions
from aigc_text.generation.prompt_files import read_prompts


class Deaf(Backend):
    """Takes no option at all."""

    takes = ()
    name = "deaf"

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        self.resolve(options, overrides)
        yield from (Completion(prompt=p, text="what?", prompt_index=i) for i, p in enumerate(prompts))


class Attentive(Deaf):
    """Says nothing of what it takes."""

    takes = None


@pytest.mark.parametrize("given", [{"temperature": 3.0}, {"seed": 1}, {"max_new_tokens": 5, "top_k": 7}])
def test_a_backend_that_takes_no_option_refuses_each(given):
    with pytest.raises(OptionError) as refused:
        list(Deaf().generate(["a"], **given))
    assert refused.value.message == f"backend 'deaf' has no option {next(iter(given))!r}."
    assert refused.value.cure.startswith("Allowed: none. ")
    assert [c.text for c in Deaf().generate(["a"])] == ["what?"]
    assert [c.text for c in Attentive().generate(["a"], **given)] == ["what?"]


def test_what_a_backend_accepts():
    assert Deaf.accepted() == ()
    assert set(Attentive.accepted()) == set(Attentive.Options.fields())


@pytest.fixture(scope="module")
def rnn():
    pytest.importorskip("torch")
    return load("rnn")


@pytest.mark.parametrize("size", ["batch_size", "batch_tokens"])
@pytest.mark.parametrize("value", [0, -1])
def test_sizes_of_batches_below_1_are_refused(rnn, size, value):
    with pytest.raises(OptionError, match=f"{size} cannot be {value}"):
        list(rnn.generate(["a"], **{size: value}))
    if size == "batch_size":
        with pytest.raises(OptionError, match=f"batch_size cannot be {value}"):
            list(rnn.score(["a"], batch_size=value))


@pytest.mark.parametrize("context", [0, 1])
def test_a_context_that_is_too_small_for_scores_is_refused(rnn, context):
    with pytest.raises(OptionError, match=f"context cannot be {context}"):
        list(rnn.score(["a"], context=context))


def test_no_prompts_give_no_texts(rnn):
    assert list(rnn.generate([])) == [] and generated([], "rnn") == []


@pytest.mark.parametrize(
    "given",
    [{"backend": ""}, {"model": ""}, {"backend": "rnn", "model": ""}, {"device": ""}, {"dtype": ""}, {"engine": ""}],
)
def test_no_name_is_empty(given):
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="''"):
        load(**given)


@pytest.mark.parametrize("given", [{"tokenizer": ""}, {"vocab_size": 0}])
def test_a_new_model_takes_no_empty_tokenizer(given):
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="is no tokenizer|vocab_size 0 is less"):
        from_scratch("rnn", ["a b c"], **given)


def test_a_vocabulary_of_nothing_is_refused():
    pytest.importorskip("transformers")
    with pytest.raises(OptionError, match="vocab_size 0 is less than the 257 entries"):
        train("bpe", ["a b c"], 0)


@pytest.mark.parametrize("metrics", [(), (",",)])
def test_an_evaluation_needs_a_metric(metrics):
    with pytest.raises(OptionError, match="metrics names no metric"):
        EvaluationOptions(metrics=metrics).groups()


def test_an_empty_template_makes_empty_prompts(tmp_path):
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    assert list(read_prompts(tmp_path / "prompts.txt", "")) == ["", ""]
    assert list(read_prompts(tmp_path / "prompts.txt")) == ["one", "two"]


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "--backend", "rnn", "--prompt", "a", "--output", ""),
        ("generate", "--backend", "rnn", "--prompt", "a", "--stop", ""),
        ("generate", "--backend", "", "--prompt", "a"),
        ("score", "--backend", "rnn", "data.txt", "--output", ""),
        ("evaluate", "--backend", "rnn", "--data", "data.txt", "--output", ""),
        ("evaluate", "--backend", "rnn", "--data", "data.txt", "--metrics", ""),
        ("train", "--backend", "rnn", "--data", "data.txt", "--output", "run", "--tokenizer", ""),
        ("report", "--tally", "data.txt", "--key", ""),
    ],
)
def test_commands_refuse_empty_words(refused, monkeypatch, tmp_path, words):
    if words[0] == "train":
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("a man rides a horse\n" * 50)
    refused(*words, says=[])
    assert [path.name for path in tmp_path.iterdir()] == ["data.txt"]
