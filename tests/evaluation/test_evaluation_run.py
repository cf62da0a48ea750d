"""An evaluation: the real data on top, one protocol, reasons for what is missing, everything checked before work."""

import json
import random

import pytest
import tiny

import aigc_text
from aigc_text import Backend, Capabilities, Completion, EvaluationOptions, evaluate, load
from aigc_text.data.sources import Pair
from aigc_text.errors import DataError, MetricError, ModelError, OptionError
from aigc_text.evaluation import metric_groups
from aigc_text.evaluation.candidates import System
from aigc_text.evaluation.evaluation_run import Evaluation
from aigc_text.evaluation.metric_groups import Texts, Yardstick
from aigc_text.evaluation.options import sweep_of
from aigc_text.outputs import Score

DATA = [
    "a man rides a horse on the beach.",
    "a dog sleeps on a red couch.",
    "two children play with a ball.",
    "a bowl of fruit on a wooden table.",
    "the man rides a bicycle down the street.",
    "a cat sits on top of a car.",
]
TRAIN = ["a man sleeps on a couch.", "a dog rides a horse.", "a cat sits on a table.", "children play in the street."]
QUICK = {"metrics": ("bleu,self-bleu,distinct,uniqueness,novelty,lengths,vocabulary,likelihood",), "num_samples": 4}


class Fixed(Backend):
    """Says the same few texts; counts how many it has made."""

    takes = ("seed", "temperature")
    texts = ("a man rides a dog.", "a cat sleeps on a table.", "", "a man rides a dog.")
    made = 0

    def __init__(self, revision="1"):
        self.name, self.revision = "fixed", revision

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        options = self.resolve(options, overrides)
        for i, prompt in enumerate(prompts):
            type(self).made += 1
            text = self.texts[i % len(self.texts)]
            yield Completion(prompt=prompt, text=text, prompt_index=i, finish_reason="stop" if i else "length")


class Bounded(Fixed):
    """With a bound of the likelihood, of one nat a token."""

    capabilities = Capabilities(likelihood="bound")

    def score(self, texts):
        for text in texts:
            tokens = len(text.split()) + 1
            yield Score(text=text, nll=float(tokens), tokens=tokens, kind="bound")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    Fixed.made = 0
    return tmp_path / "cache"


def rows(report):
    return {row.name: row for row in report.rows}


def test_the_real_data_are_the_first_row_and_every_gap_has_its_reason(cache):
    report = evaluate({"fixed": Fixed()}, DATA, train=TRAIN, **QUICK)
    real, fixed = report.rows
    assert real.label == "real data" and real.samples == 4
    assert 0 < fixed.values["bleu-2"] < 1 and fixed.values["uniqueness"] == 0.75 and fixed.values["novelty"] == 1.0
    assert fixed.missing["ppl/word"] == "backend 'fixed' has no likelihood"
    assert real.missing["novelty"] == "these are the training texts themselves"
    assert "1 of 4 texts are empty" in fixed.notes
    assert "1 of 4 texts were cut at the most tokens allowed (--max-new-tokens)" in fixed.notes
    assert report.protocol["references"] == len(DATA) and report.protocol["version"] == aigc_text.__version__


def test_the_figures_are_those_of_the_metrics(cache):
    from aigc_text.metrics.bleu import Bleu
    from aigc_text.metrics.self_bleu import SelfBleu

    report = evaluate({"fixed": Fixed()}, DATA, train=TRAIN, **QUICK)
    real, fixed = report.rows
    assert fixed.values.items() >= Bleu().compute(predictions=Fixed.texts, references=DATA).items()
    assert real.values.items() >= Bleu().compute(predictions=TRAIN, references=DATA).items()
    assert fixed.values.items() >= SelfBleu().compute(predictions=Fixed.texts).items()
    scores = Bleu().scores(Fixed.texts, DATA)["bleu-2"]
    assert fixed.errors["bleu-2"] == pytest.approx(scores.std(ddof=1) / 2)


def test_without_training_texts_each_real_text_is_held_against_the_others(cache):
    from aigc_text.metrics.self_bleu import SelfBleu

    report = evaluate({"fixed": Fixed()}, DATA, **{**QUICK, "num_samples": 6})
    real = report.rows[0]
    assert real.values["bleu-3"] == pytest.approx(SelfBleu().compute(predictions=DATA)["self-bleu-3"])
    assert any("for want of --train" in note for note in real.notes)
    assert "no training texts" in rows(report)["fixed"].missing["novelty"]


def test_a_bound_is_called_one(cache):
    report = evaluate({"bounded": Bounded()}, DATA, **QUICK)
    row = rows(report)["bounded"]
    assert row.values["kind"] == "bound" and row.values["nats/token"] == pytest.approx(1.0)
    assert "≤2.72" in report.text()


def test_the_likelihood_of_a_model_is_transformers_own_loss(cache, tiny_gpt2):
    import torch

    backend = load("gpt2", str(tiny_gpt2))
    report = evaluate(backend, DATA, num_samples=2, metrics=("likelihood",), generation={"max_new_tokens": 3})
    total, tokens = 0.0, 0
    for text in DATA:
        end = backend.tokenizer.eos_token_id
        ids = torch.tensor([[end, *backend.tokenizer(text)["input_ids"], end]])
        with torch.inference_mode():
            total += float(backend.model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    row = rows(report)["gpt2"]
    assert row.values["kind"] == "exact" and row.values["nats/token"] == pytest.approx(total / tokens, rel=1e-5)


def test_one_sample_has_no_self_bleu_and_says_so(cache):
    report = evaluate({"fixed": Fixed()}, DATA, **{**QUICK, "num_samples": 1})
    assert "self-bleu-2" not in rows(report)["fixed"].values
    assert "undefined" in rows(report)["fixed"].missing["self-bleu-2"].lower()


def test_one_real_text_has_no_mauve_and_says_so(cache):
    report = evaluate({"fixed": Fixed()}, DATA[:1], num_samples=2, metrics=("mauve",))
    assert all("they make one cluster only" in row.missing["mauve"] for row in report.rows)


def test_a_sweep_draws_a_curve_and_a_backend_without_the_option_is_a_point(cache, tmp_path):
    class Plain(Fixed):
        takes = ("seed",)

    out = tmp_path / "report"
    report = evaluate({"a": Fixed(), "b": Plain("2")}, DATA, sweep="temperature=0.5:1:0.25", output=out, **QUICK)
    assert [row.name for row in report.rows] == [
        "real data",
        *(f"a temperature={t}" for t in ("0.5", "0.75", "1")),
        "b",
    ]
    assert any("does not take temperature" in note for note in rows(report)["b"].notes)
    assert (out / "frontier.png").read_bytes().startswith(b"\x89PNG")
    kept = [json.loads(line) for line in (out / "samples" / "a_temperature=0.5.jsonl").read_text().splitlines()]
    assert [k["text"] for k in kept] == list(Fixed.texts)
    assert json.loads((out / "report.json").read_text())["protocol"]["complete"] is True


def test_samples_are_made_once_and_a_run_that_broke_off_goes_on(cache, tmp_path, monkeypatch):
    options = EvaluationOptions.parse(QUICK)
    stages = Evaluation([System(label="a", backend=Fixed())], DATA, None, {}, options, tmp_path / "out").stages()
    for stage in stages:
        if stage.doing == "sampling a" and stage.done == 2:
            break
    stages.close()
    assert Fixed.made == 2
    report = evaluate({"a": Fixed()}, DATA, output=tmp_path / "out", **QUICK)
    assert rows(report)["a"].samples == 4
    made = Fixed.made
    evaluate({"a": Fixed()}, DATA, output=tmp_path / "out", overwrite=True, **QUICK)
    assert Fixed.made == made


def test_what_is_done_is_on_disk_when_a_later_model_fails(cache, tmp_path):
    class Breaking(Fixed):
        def generate(self, prompts, options=None, **overrides):
            yield from list(super().generate(prompts[:2], options))
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        evaluate({"a": Fixed(), "b": Breaking("2")}, DATA, output=tmp_path / "out", **QUICK)
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["label"] for row in found["rows"]] == ["real data", "a"] and not found["protocol"]["complete"]
    report = evaluate({"a": Fixed()}, DATA, output=tmp_path / "out", **QUICK)  # an unfinished report may be replaced
    assert len(report.rows) == 2


def test_texts_from_elsewhere_are_measured_with_their_empty_ones(cache, tmp_path):
    path = tmp_path / "theirs.txt"
    path.write_text("a man.\n\na dog.\na cat.\n")
    report = evaluate([System(label="theirs", samples=path)], DATA, **QUICK)
    row = rows(report)["theirs"]
    assert row.samples == 4 and "1 of 4 texts are empty" in row.notes
    assert row.missing["ppl/word"] == "these texts come without a model"


def test_texts_in_another_form_than_the_data_have_a_note(cache, tmp_path):
    path = tmp_path / "theirs.txt"
    path.write_text("a man rides a horse .\n" * 4)
    report = evaluate([System(label="theirs", samples=path)], DATA, **QUICK)
    assert any("white space before punctuation" in note for note in report.rows[1].notes)
    path.write_text("a man rides a horse.\n" * 4)
    assert not any("punctuation" in n for n in evaluate([System(label="t", samples=path)], DATA, **QUICK).rows[1].notes)


def test_pairs_are_completed_and_have_corpus_bleu(cache, tmp_path):
    pytest.importorskip("sacrebleu")
    path = tmp_path / "pairs.jsonl"
    records = [{"q": f"question {n}", "a": text} for n, text in enumerate(DATA)]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    columns = {"prompt_column": "q", "completion_column": "a"}
    report = evaluate({"fixed": Fixed()}, path, num_samples=4, metrics=("sacrebleu,bleu,likelihood",), **columns)
    row = rows(report)["fixed"]
    assert 0 < row.values["sacrebleu"] < 100 and row.samples == 4
    assert "sacrebleu" in report.rows[0].missing


def test_texts_from_elsewhere_are_held_against_the_completions_of_their_own_prompts(cache, tmp_path):
    pytest.importorskip("sacrebleu")
    pairs, theirs = tmp_path / "pairs.jsonl", tmp_path / "theirs.txt"
    pairs.write_text("".join(json.dumps({"q": f"question {n}", "a": text}) + "\n" for n, text in enumerate(DATA)))
    theirs.write_text("".join(f"{text}\n" for text in DATA))
    columns = {"prompt_column": "q", "completion_column": "a"}
    systems = [System(label="theirs", samples=theirs)]
    report = evaluate(systems, pairs, num_samples=3, metrics=("sacrebleu",), **columns)
    assert report.rows[1].samples == 3 and report.rows[1].values["sacrebleu"] == pytest.approx(100)


def test_without_its_package_corpus_bleu_is_missing_and_refused_if_asked_for(cache, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"q": "why", "a": "a dog"}\n{"q": "who", "a": "a cat"}\n')
    columns = {"prompt_column": "q", "completion_column": "a"}
    with pytest.raises(MetricError, match="sacrebleu"):
        evaluate({"fixed": Fixed()}, path, metrics=("sacrebleu",), **columns)
    assert Fixed.made == 0
    found = metric_groups.measure(Yardstick(["a dog"], completions=["a dog"]), Texts(["a dog"]), ["sacrebleu"])
    assert 'pip install "aigc-text[metrics]"' in found[1]["sacrebleu"]


def test_chinese_has_no_perplexity_per_word(cache):
    report = evaluate({"bounded": Bounded()}, ["一只狗睡觉", "一只猫跑"], tokenize="chars", **QUICK)
    assert "ppl/word" not in report.rows[1].values and "ppl/word" in report.rows[1].missing
    assert "bits/byte" in report.rows[1].values


def test_perplexity_is_per_character_where_nothing_separates_words(cache):
    quick = {**QUICK, "metrics": ("likelihood", "reference-ppl")}
    chinese = evaluate({"bounded": Bounded()}, ["一只狗睡觉。\n今天天气很好", "一只猫跑"], **quick)
    assert chinese.rows[1].missing["ppl/word"] == "no spaces separate the words of the data"
    assert chinese.rows[1].values["ppl/char"] > 1 and "ppl/char" in chinese.text()
    assert any("reference ppl is per character" in note for note in chinese.notes())
    english = evaluate({"bounded": Bounded()}, DATA, **quick)
    assert "ppl/word" in english.rows[1].values and "ppl/char" not in english.text()
    assert not any("per character" in note for note in english.notes())


def test_pure_sampling_is_the_same_for_all_and_own_is_the_models(cache, tiny_gpt2):
    backend = load("gpt2", str(tiny_gpt2))
    assert backend.effective(backend.resolve(None, {}))["top_p"] == 0.95
    given = {"num_samples": 2, "metrics": ("uniqueness",), "generation": {"max_new_tokens": 3}}
    pure, own = (evaluate(backend, DATA, sampling=s, **given).rows[1].about["options"] for s in ("pure", "own"))
    assert (pure["top_p"], pure["temperature"], pure["do_sample"]) == (1.0, 1.0, True)
    assert own["top_p"] == 0.95


@pytest.mark.parametrize(("beams", "pure"), [(1, True), (2, False)])
def test_one_beam_is_drawn_as_purely_as_none(cache, tiny_gpt2, beams, pure):
    given = {"num_samples": 2, "metrics": ("uniqueness",)}
    backend = load("gpt2", str(tiny_gpt2))
    found = [
        evaluate(backend, DATA, generation={"max_new_tokens": 3, "num_beams": beams}, **given),
        evaluate(backend, DATA, generation={"max_new_tokens": 3}, sweep=f"num_beams={beams}", **given),
    ]
    for report in found:
        options = report.rows[1].about["options"]
        assert options["do_sample"] is pure and (options.get("top_p") == 1.0) is pure


def test_words_unknown_to_the_model_are_told(cache, tmp_path):
    backend = aigc_text.from_scratch("gpt2", TRAIN, tokenizer="word", n_layer=1, n_embd=8, n_head=1)
    report = evaluate({"w": backend}, DATA, num_samples=2, metrics=("likelihood",), generation={"max_new_tokens": 3})
    assert any("are unknown to the model" in note for note in report.rows[1].notes)


# What is found out before any text is generated


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"metrics": ("blue",)}, OptionError, "Did you mean 'bleu'"),
        ({"sweep": "temperature=1:0:0.1"}, OptionError, "not first:last:step"),
        ({"generation": {"temprature": 1}}, OptionError, "Did you mean 'temperature'"),
        ({"generation": {"seed": 1}}, OptionError, "--seed"),
        ({"train": "no-such-file.txt"}, DataError, "no-such-file.txt"),
        ({"metrics": ("mauve",), "feature_model": "no/such-model"}, ModelError, "no/such-model"),
        ({"metrics": ("reference-ppl",), "reference_model": "no/such-model"}, ModelError, "no/such-model"),
        ({"quality": "distinct-1"}, OptionError, "bleu-2"),
    ],
)
def test_mistakes_are_told_before_the_first_text(cache, change, error, says):
    with pytest.raises(error) as caught:
        evaluate({"fixed": Fixed()}, DATA, **{**QUICK, **change})
    assert says in str(caught.value)
    assert Fixed.made == 0


def test_a_later_model_is_checked_before_an_earlier_one_works(cache, tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        evaluate({"fixed": Fixed(), "b": str(tmp_path / "nowhere")}, DATA, **QUICK)
    assert Fixed.made == 0


def test_a_finished_report_is_not_overwritten_unasked(cache, tmp_path):
    evaluate({"fixed": Fixed()}, DATA, output=tmp_path / "out", **QUICK)
    before = (tmp_path / "out" / "report.json").read_bytes()
    with pytest.raises(OptionError, match="holds a report already"):
        evaluate({"other": Fixed()}, DATA, output=tmp_path / "out", **QUICK)
    assert (tmp_path / "out" / "report.json").read_bytes() == before


@pytest.mark.parametrize("systems", [[], [System(label="a", backend=Fixed())] * 2, {"real data": Fixed()}])
def test_labels_must_be_there_and_differ(cache, systems):
    with pytest.raises(OptionError):
        evaluate(systems, DATA, **QUICK)


@pytest.mark.parametrize(
    ("labels", "says"), [(("a b", "a_b"), "would be one file, a_b.jsonl"), (("字" * 60,), "too long for the file")]
)
def test_samples_have_a_file_each_and_it_can_be_made(cache, tmp_path, labels, says):
    with pytest.raises(OptionError, match=says):
        evaluate({label: Fixed() for label in labels}, DATA, output=tmp_path / "out", **QUICK)
    assert Fixed.made == 0
    assert len(evaluate({label: Fixed() for label in labels}, DATA, **QUICK).rows) == 1 + len(labels)


def test_a_file_in_the_place_of_the_samples_is_told_before_the_first_text(cache, tmp_path):
    (tmp_path / "samples").write_text("mine")
    with pytest.raises(OptionError, match="samples cannot be made: File exists"):
        evaluate({"fixed": Fixed()}, DATA, output=tmp_path, **QUICK)
    assert Fixed.made == 0


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("temperature=0.5:1.2:0.1", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2]),
        ("top-p=0.8,1", [0.8, 1.0]),
        ("top_k=1:9:4", [1, 5, 9]),
        ("steps=3,4.0", [3, 4]),  # of a backend's own
        ("z_temperature=0.5,1", [0.5, 1]),
    ],
)
def test_a_sweep_has_the_points_that_it_names(text, points):
    found = [value for at in sweep_of(text) for value in at.values()]
    assert found == points and all(type(a) is type(b) for a, b in zip(found, points, strict=True))


@pytest.mark.parametrize(
    "text",
    ["temperature", "temperature=", "temperature=a:b:c", "temperature=0:1:0", "temperature=0:1:1e-9", "top_p=2",
     "temperature=-1,1", "stop_strings=a,b", "seed=1:3:1", "temperature=nan", "top_k=0.5,1", "temperature=1:2"],
)  # fmt: skip
def test_a_sweep_of_nonsense_is_refused(text):
    with pytest.raises(OptionError):
        sweep_of(text)


def test_every_column_of_a_group_is_known_to_the_report():
    from aigc_text.evaluation.columns import COLUMNS
    from aigc_text.evaluation.metric_groups import GROUPS

    assert {c for group in GROUPS.values() for c in group.columns} == set(COLUMNS)


def test_the_tiny_models_are_told_apart_by_their_weights(cache, tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for seed, path in enumerate(paths):
        tokens = tiny.tokenizer()
        tiny.model("gpt2", tokens, seed).save_pretrained(path)
        tokens.save_pretrained(path)
    given = {"num_samples": 2, "metrics": ("uniqueness",), "generation": {"max_new_tokens": 4}}
    systems = [System(label=str(n), backend="gpt2", model=str(path)) for n, path in enumerate(paths)]
    evaluate(systems, DATA, **given)
    assert len(list((cache / "samples").iterdir())) == 2


# What it costs


class Scoring(Bounded):
    """The same, with a count of its own of the texts that it has made."""

    made = 0


@pytest.mark.parametrize("metrics", ["likelihood", "novelty", "sacrebleu", "likelihood,novelty,sacrebleu"])
def test_nothing_is_generated_that_is_not_measured(cache, tmp_path, metrics):
    """Novelty needs training texts and corpus BLEU needs pairs; there are neither."""
    Scoring.made = 0
    evaluation = Evaluation(
        [System(label="fixed", backend=Scoring())],
        DATA,
        None,
        {},
        EvaluationOptions(metrics=(metrics,), num_samples=1000),
        output=tmp_path / "out",
    )
    assert evaluation.plan().startswith("no text to generate")
    stages = list(evaluation.stages())
    assert Scoring.made == 0 and not any(stage.total for stage in stages)
    found = rows(stages[-1].report)["fixed"]
    assert ("kind" in found.values) == ("likelihood" in metrics)
    assert found.samples == 0 and not any("texts" in note for note in found.notes)
    assert not list((tmp_path / "out").glob("samples/*")) and not cache.exists()


def test_the_figures_are_the_same_without_texts(cache):
    alone = rows(evaluate({"fixed": Scoring()}, DATA, metrics=("likelihood",), num_samples=4))["fixed"]
    among = rows(evaluate({"fixed": Scoring()}, DATA, **QUICK))["fixed"]
    assert Scoring.made and alone.values.items() <= among.values.items()


def test_a_sweep_without_texts_is_refused(cache):
    with pytest.raises(OptionError, match="--sweep temperature=0.5,1 varies generated texts"):
        evaluate({"fixed": Scoring()}, DATA, metrics=("likelihood",), sweep="temperature=0.5,1")


def test_the_plan_counts_texts_models_and_points(cache):
    systems = [System(label=label, backend=Scoring(label)) for label in ("one", "two")]
    options = EvaluationOptions(metrics=("bleu", "likelihood"), num_samples=500, sweep="temperature=0.5,1")
    plan = Evaluation(systems, DATA, None, {}, options).plan()
    assert plan == (
        "2,000 texts to generate (2 models at 4 points of the sweep in all), less those that are in the cache; "
        "6 real texts to score by 2 models"
    )


def test_texts_of_the_data_themselves_or_with_references_of_their_own_are_not_mode_seeking(tmp_path):
    """The real row's texts are never held against themselves, so only other texts can be held against that row."""
    words = ["the", "a", "one", "cat", "dog", "bird", "sat", "ran", "saw", "on", "by", "mat", "hill", "day"]
    draw = random.Random(0)
    real = [" ".join(draw.choices(words, k=8)) for _ in range(200)]
    same = tmp_path / "same.txt"
    same.write_text("\n".join(real[:100]), encoding="utf-8")
    other = tmp_path / "other.txt"
    other.write_text("\n".join(" ".join(draw.choices(words, k=8)) for _ in range(100)), encoding="utf-8")
    narrow = tmp_path / "narrow.txt"
    narrow.write_text("\n".join(" ".join((*r.split()[:7], "night")) for r in real[:100]), encoding="utf-8")
    short = tmp_path / "short.txt"
    short.write_text("\n".join(" ".join((*r.split()[:3], "night")) for r in real[:100]), encoding="utf-8")
    options = {"metrics": ("bleu",), "num_samples": 100, "sample_by": "line"}

    def found(data, *files, **more):
        systems = [System(label=f.stem, samples=f) for f in files]
        return [f for f in evaluate(systems, data, **options, **more).findings if "mode seeking" in f]

    assert found(real, same, other) == []
    assert ["narrow." in f for f in found(real, narrow)] == [True]
    assert found(real, short) == []  # half as long as the data: other n-grams for that alone
    pairs = [Pair("say:", text) for text in real[:100]]
    assert found(pairs, same) == []
