"""Every pair of options that a command accepts: refused with both names, or both in force."""

import contextlib
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import click
import pytest
from commands import file

from aigc_text import Backend, Capabilities, Completion, Score, TokenScore, cli
from aigc_text.errors import OptionError, UserError
from aigc_text.options import contradictions
from aigc_text.options.base import option
from aigc_text.options.contradictions import Rule, flag, refuse
from aigc_text.options.generation import GenerationOptions
from aigc_text.options.training import TrainingOptions

SEEN = []


def see(name, *given, **named):
    SEEN.append(f"{name} {given!r} {named!r}")


@dataclass(frozen=True, kw_only=True)
class Own(GenerationOptions):
    mine: int | None = option(None, "Its own.", low=1)
    suffix: str | None = option(None, "What follows.")


class Light(Backend):
    """Takes all options, and tells what it was asked for."""

    Options = Own
    capabilities = Capabilities(likelihood="exact", latents=True, infilling=True)
    name, source = "light", "light"

    @classmethod
    def from_pretrained(cls, model=None, **how):
        return cls()

    def generate(self, prompts, options=None, **how):
        prompts = list(prompts)
        see("generate", prompts, self.resolve(options, {}), **how)
        for i, prompt in enumerate(prompts):
            for j in range(options.num_return_sequences or 1):
                yield Completion(prompt=prompt, text="a text", prompt_index=i, index=j, seed=options.seed, tokens=2)

    def pieces(self, prompts, options=None, **how):
        see("pieces", **how)
        return super().pieces(prompts, options)

    def generate_some(self, prompts, options, wanted, **how):
        see("generate_some", **how)
        return super().generate_some(prompts, options, wanted)

    def score(self, texts, **how):
        texts = list(texts)
        see("score", texts, **how)
        for text in texts:
            yield Score(text=text, nll=1.0, tokens=1, per_token=(TokenScore(start=0, end=len(text), nll=1.0),))

    def posteriors(self, texts):
        see("posteriors", texts)
        return SimpleNamespace(mean=SimpleNamespace(shape=(len(texts), 2)))


def loaded(backend=None, model=None, **how):
    see("load", backend, model, **how)
    return Light()


GENERATION = {
    "max_new_tokens": "31", "min_new_tokens": "3", "do_sample": False, "temperature": "0.57", "top_k": "37",
    "top_p": "0.77", "min_p": "0.017", "repetition_penalty": "1.37", "no_repeat_ngram_size": "7", "num_beams": "4",
    "length_penalty": "1.7", "num_return_sequences": "2", "stop_strings": "STOP", "truncate_prompt": True,
    "seed": "4711",
}  # fmt: skip
LOADING = {"revision": "a-revision", "dtype": "bf16", "device": "cpu", "trust_remote_code": True}
ENGINE = {"engine": "ctranslate2", "quantize": "int8"}
SIZES = {"batch_size": "13", "batch_tokens": "1313"}
FILES = {"output": "out", "overwrite": True}

#: A value of each option that is no default; what is not here fails the test, so a new option cannot be forgotten.
VALUES = {
    "generate": {
        "backend": "a-backend", "model": "a-model", "prompt": "a prompt", "prompts_file": "p.jsonl",
        "prompt_column": "a column",
        "template": "T-{prompt}", "suffix": "a-suffix", "extra": "mine=19", "form": "json", "echo": False,
        "resume": True, "max_copy": "23", "copy_source": "p.txt", **GENERATION, **LOADING, **ENGINE, **SIZES, **FILES,
    },
    "train": {
        "backend": "gpt2", "model": "a-model", "from_scratch": True, "tokenizer": "char", "vocab_size": "512",
        "data": "d.jsonl", "validation": "two.jsonl", "output": "run", "resume": True, "merge": True, "seeds": "3",
        "device": "cpu", "config": "n_layer=5",
        "max_steps": "97", "epochs": "2.7", "batch_size": "13", "gradient_accumulation_steps": "3",
        "text_column": "body", "prompt_column": "q", "completion_column": "a", "sample_by": "line", "streaming": True,
        "packing": False, "block_size": "96", "augment": "word_dropout=0.11", "validation_split": "0.13",
        "learning_rate": "0.0017", "optimizer": "muon", "weight_decay": "0.19", "adam_beta2": "0.93",
        "momentum": "0.83", "average_from": "7", "schedule": "linear", "warmup_steps": "29", "min_rate": "0.23",
        "plateau_factor": "0.37", "plateau_patience": "5", "max_grad_norm": "1.9", "group": "model.weight_decay=0.3",
        "lora_rank": "6", "lora_alpha": "11.0", "lora_dropout": "0.21", "lora_targets": "attn", "precision": "fp32",
        "compile": True, "eval_every": "43", "eval_on_start": True, "eval_blocks": "47", "early_stopping": "4",
        "best": "bits_per_byte", "deliver": "best", "samples": "9", "sample_prompts": "Once", "save_every": "53",
        "keep_checkpoints": "8", "seed": "4711",
    },
    "score": {
        "backend": "a-backend", "model": "a-model", "text_column": "body", "sample_by": "line", "form": "color",
        "tokens": False, "picture": "pic.html", "batch_size": "13", **LOADING, **FILES,
    },
    "evaluate": {
        "compare": True, "backend": "a-backend", "model": "a-model", "samples": "two.txt", "data": "d.jsonl",
        "train": "two.txt", "num_samples": "97", "metrics": "bleu,distinct", "tokenize": "chars", "sampling": "own",
        "sweep": "temperature=0.91,0.92", "quality": "bleu-3", "diversity": "distinct-2",
        "reference_model": "ref-model", "feature_model": "feature-model", "text_column": "body",
        "prompt_column": "q", "completion_column": "a",
        "sample_by": "document", "seed": "4711", "extra": "mine=19", "form": "json", "cache": "a-cache",
        **{k: v for k, v in GENERATION.items() if k not in ("num_return_sequences", "seed")},
        **LOADING, "batch_size": "13", **FILES,
    },
    "evaluate-code": {
        "backend": "a-backend", "model": "a-model", "samples": "solutions", "ks": "1,2", "run_untrusted_code": True,
        "run_unconfined": True, "syntax_only": True, "workers": "5", "seconds": "3", "memory": "777", "disk": "17",
        "printed": "999", "extra": "mine=19", "form": "json", **GENERATION, **LOADING, **ENGINE, **SIZES, **FILES,
    },
    "copies": {
        "source": "p.txt", "held_out": "two.txt", "threshold": "7", "text_column": "body", "sample_by": "line",
        "label": "a-label", "show": "3", "form": "json", **FILES,
    },
    "report": {
        "output": "page.html", "overwrite": True, "title": "a-title", "seed": "4711", "pairs": "13", "samples": "17",
        "tallied": True, "key": "k.json", "form": "json",
    },
    "latents": {
        "backend": "a-backend", "model": "a-model", "text_column": "body", "group_column": "topic",
        "outputs": "l.parquet", "log_variance": True, "difference": "x,y", "seed": "4711", "overwrite": True, **LOADING,
    },
}  # fmt: skip
#: What an option needs beside it, and what each command needs: given where the pair has no other value for it.
BESIDE = {
    "resume": {"form": "jsonl", "output": "out"}, "max_copy": {"copy_source": "p.txt"},
    "copy_source": {"max_copy": "23"}, "echo": {"form": "text"},
    "length_penalty": {"num_beams": "4"}, "tokenizer": {"from_scratch": True}, "vocab_size": {"from_scratch": True},
    "merge": {"lora_rank": "6"}, "lora_alpha": {"lora_rank": "6"}, "lora_dropout": {"lora_rank": "6"},
    "lora_targets": {"lora_rank": "6"}, "prompt_column": {"completion_column": "a"},
    "completion_column": {"prompt_column": "q"}, "momentum": {"optimizer": "sgd"},
    "average_from": {"optimizer": "asgd"}, "plateau_factor": {"schedule": "plateau"},
    "plateau_patience": {"schedule": "plateau"}, "sample_prompts": {"samples": "9"},
    "form": {"tallied": True}, "key": {"tallied": True}, "difference": {"group_column": "topic", "outputs": "d.json"},
    "quantize": {"engine": "ctranslate2"}, "seconds": {"run_unconfined": True},
    "log_variance": {"outputs": "l.parquet"}, "seed": {"outputs": "l.png"},
    "ks": {"num_return_sequences": "2", "do_sample": True},
}  # fmt: skip
NEEDED = {
    "train": {"data": "d.jsonl", "output": "run"}, "evaluate": {"data": "d.jsonl"}, "copies": {"source": "p.txt"},
    "report": {"output": "page.html"}, "latents": {"outputs": "l.parquet"}, "generate": {"prompt": "a prompt"},
    "evaluate-code": {"run_unconfined": True},
}  # fmt: skip
ARGUMENT = {
    "score": "two.txt", "copies": "texts.jsonl", "report": "one.jsonl", "latents": "two.txt", "evaluate": "gpt2",
    "evaluate-code": "problems.jsonl",
}  # fmt: skip
#: A column needs data with columns, a division plain text.
COLUMNS = {"score": "texts.jsonl", "latents": "topics.jsonl"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "p.txt", "a filed prompt\n")
    file(tmp_path, "two.txt", "one text\nanother text\n")
    return tmp_path


def options_of(name):
    command = cli.cli.get_command(click.Context(cli.cli), name)
    return command, {
        p.name: p for p in command.params if isinstance(p, click.Option) and p.name not in ("config_file", "help")
    }


def words_of(parameter, value):
    if isinstance(value, bool):
        return [parameter.opts[-1] if value else parameter.secondary_opts[0]]
    return [max(parameter.opts, key=len), value]


def line_of(name, options, pair):
    """The words of a command with two options and what they need beside them."""
    given = {n: VALUES[name][n] for n in pair}
    for n in pair:
        if not (name in ("generate", "score", "evaluate", "evaluate-code", "copies") and n in ("form", "key")):
            given = {**{k: v for k, v in BESIDE.get(n, {}).items() if k in options}, **given}
    if "overwrite" in pair and name not in ("report", "latents"):
        given = {"output": "out", **given}
    if name == "evaluate" and "sample_by" in pair:
        given = {"train": "two.txt", **given}
    if name == "train" and "sample_by" in pair:
        given["data"] = "two.txt"
        if "text_column" in pair:
            given["validation"] = "two.jsonl"
    needed = NEEDED.get(name, {})
    given = {**{k: v for k, v in needed.items() if not _replaced(name, k, given)}, **given}
    argument = [ARGUMENT[name]] if name in ARGUMENT else []
    if name in COLUMNS and {"text_column", "group_column", "difference"} & set(pair):
        argument = [COLUMNS[name]]
    return [*argument, *itertools.chain(*(words_of(options[n], v) for n, v in given.items()))], given


def _replaced(name, needed, given):
    """Whether what a command needs comes from another option in this line."""
    other = {
        "prompt": ("prompts_file",),
        "output": ("tallied",),
        "run_unconfined": ("run_untrusted_code", "syntax_only"),
    }
    return needed in given or (
        name in ("generate", "report", "evaluate-code") and bool(set(other.get(needed, ())) & set(given))
    )


def named(error, name, parameter):
    said = f"{error.format_message() if isinstance(error, click.ClickException) else error}".replace("_", "-")
    flags = [*parameter.opts, *parameter.secondary_opts, flag(name), name.replace("_", "-")]
    return any(f.replace("_", "-") in said for f in flags)


class Shown:
    protocol = {"a": 1}

    def text(self, form):
        see("text", form)
        return ""


def writer(path, texts, groups, chosen, found, loaded, variances, seed):
    see("writer", path.name, texts, groups=groups, chosen=chosen, variances=variances, seed=seed)
    return lambda place: place.write_text("new")


@pytest.fixture
def watched(place, monkeypatch):
    """Replaces what is heavy by what tells how it is called."""
    SEEN.clear()
    from aigc_text import api
    from aigc_text.cli import evaluate
    from aigc_text.code_eval import evaluation as code_evaluation
    from aigc_text.evaluation import evaluation_run
    from aigc_text.html_report import page, tally
    from aigc_text.hub import loading
    from aigc_text.memorization import copies, regenerate
    from aigc_text.runs import run_data, seeds, training_run

    def find(backend, model):
        see("find", backend, model)
        return "light", Light, model

    def train(backend, data, folder, **more):
        see("train", data, str(folder.path), resume=folder.resume, **more)
        return iter(())

    def train_seeds(make, data, folder, number, **more):
        make(1)
        see("train_seeds", data, str(folder.path), seeds=number, **more)
        return iter(())

    class Evaluation(contextlib.nullcontext):
        def __init__(self, *given, **more):
            super().__init__(self)
            see("evaluation", *map(vars, given[0]), *(vars(g) if hasattr(g, "what") else g for g in given[1:]), **more)

        def plan(self):
            return ""

    class Without(regenerate.WithoutCopies):
        def __init__(self, *given):
            see("without", *given)
            super().__init__(*given)

    class Source(copies.Source):
        def __init__(self, *given):
            see("source", *given)
            super().__init__(*given)

    def report(*given, **more):
        see("copies", *given, **more)
        return {"texts": [], "threshold": 1, "label": "x", "held_out": more["held_out"] and {}, "outputs": {}}

    built = page.Page("<p>", None, ())
    for where, name, what in (
        (api, "load", loaded),
        (api, "find", find),
        (api, "from_scratch", lambda *given, **more: see("from_scratch", *given, **more)),
        (training_run, "train", train),
        (run_data, "read_data", lambda *given: SimpleNamespace(examples=(), given=given)),
        (seeds, "train_seeds", train_seeds),
        (loading, "choose_device", lambda device: see("device", device)),
        (evaluation_run, "Evaluation", Evaluation),
        (evaluate, "_shown", lambda _: Shown()),
        (copies, "report", report),
        (copies, "Source", Source),
        (regenerate, "WithoutCopies", Without),
        (code_evaluation, "attempts", lambda *given, **more: (see("attempts", *given, **more), (n for n in ()))[1]),
        (code_evaluation, "summary", lambda found, ks: see("summary", ks) or {}),
        (code_evaluation, "table", lambda _: ""),
        (page, "build", lambda *given, **more: (see("page", *given, **more), built)[1]),
        (tally, "tally", lambda *given: see("tally", *given)),
        (tally, "written", lambda _, form: see("written", form) or ""),
    ):
        monkeypatch.setattr(where, name, what)
    monkeypatch.setattr("aigc_text.cli.copies._table", lambda *given: str(given))
    monkeypatch.setattr("aigc_text.cli.latents._writer", writer)
    monkeypatch.setattr("aigc_text.code_eval.sandbox.runner.check_support", lambda: see("confined"))
    problem = {"task_id": "a", "prompt": "def f():\n", "entry_point": "f", "test": "def check(f): pass"}
    file(place, "problems.jsonl", json.dumps({**problem, "canonical_solution": "    pass\n"}) + "\n")
    line = json.dumps({"text": "a", "body": "b", "q": "c", "a": "d"}) + "\n"
    file(place, "d.jsonl", line)
    file(place, "two.jsonl", line * 2)
    file(place, "p.jsonl", json.dumps({"prompt": "a filed prompt", "a column": "a filed prompt of a column"}) + "\n")
    file(place, "texts.jsonl", '{"text": "a", "body": "b"}\n')
    file(place, "topics.jsonl", "".join(json.dumps({"text": "a", "body": "b", "topic": t}) + "\n" for t in "xy"))
    return place


WRITTEN = ("out", "page.html", "pic.html", "l.parquet", "l.png", "d.json")


def ran(command, words, folder, capfd):
    """The error of a command, or all that it did: what was called with what, and what it wrote."""
    SEEN.clear()
    for left in (*WRITTEN, "page.key.json"):
        (folder / left).unlink(missing_ok=True)
        if "--overwrite" in words and left in words:
            (folder / left).write_text("old")
    capfd.readouterr()
    try:
        command.main([str(w) for w in words], standalone_mode=False)
    except (UserError, click.ClickException) as error:
        return error, ""
    out, err = capfd.readouterr()
    written = [(n, (folder / n).read_text()) for n in WRITTEN if (folder / n).exists()]
    return None, "\n".join([*SEEN, out, err, repr(written)])


#: What shows that a flag, or an option whose value goes another way, is in force: a part of what is seen, or a test.
SEEN_AS = {
    "do_sample": "do_sample=False", "extra": "19", "prompts_file": "a filed prompt", "template": "T-",
    "from_scratch": "from_scratch", "tallied": "tally", "run_untrusted_code": "confined",
    "run_unconfined": "'confined': False", "syntax_only": "reading", "ks": "(1, 2)", "copy_source": "p.txt",
    "packing": "packing=False", "held_out": "one text", "show": "3", "source": "p.txt", "metrics": "bleu",
    "sweep": "temperature=0.91", "config": "n_layer", "picture": "('pic.html', ",
    "compare": "evaluation",  # it only asks for models
    "overwrite": lambda seen: "'old')" not in seen, "echo": lambda seen: "prompta text" not in seen,
    "tokens": lambda seen: "per_token" not in seen, "output": "('out', ",
    "train.output": "'run'", "report.output": "('page.html', ", "train.resume": "'resume': True",
    "generate.resume": "nothing to resume", "generate.form": '"prompt": ', "evaluate.form": "text ('json',)",
    "copies.form": '"texts": []', "report.form": "written ('json',)", "score.form": "48;5;", "evaluate-code.form": "{}",
    "score.text_column": "['b']", "latents.text_column": "['b'", "score.sample_by": "['one text', 'another text']",
    "latents.log_variance": "'variances': True", "latents.group_column": "'groups': ['x', 'y']",
    "latents.difference": "'chosen': ('x', 'y')", "latents.outputs": "('l.parquet', ",
    "evaluate-code.samples": "'    pass\\n'", "evaluate.do_sample": "'do_sample': False",
    "evaluate.output": "'output': 'out'", "evaluate.overwrite": "'overwrite': True",
}  # fmt: skip
TRUE = {"merge", "streaming", "compile", "eval_on_start", "truncate_prompt", "trust_remote_code"}


def in_force(command, name, value, seen):
    if name in TRUE:
        return f"{name}=True" in seen or f"'{name}': True" in seen
    sign = SEEN_AS.get(f"{command}.{name}", SEEN_AS.get(name, str(value)))
    return sign in seen if isinstance(sign, str) else sign(seen)


@pytest.mark.parametrize("name", list(VALUES))
def test_every_pair_of_options_is_refused_with_both_names_or_both_are_in_force(watched, capfd, name):
    if name == "train":
        pytest.importorskip("torch")
    command, options = options_of(name)
    assert set(VALUES[name]) == set(options), "a new option needs a value here"
    refused, wrong = 0, []
    for pair in itertools.combinations(sorted(options), 2):
        words, given = line_of(name, options, pair)
        error, seen = ran(command, words, watched, capfd)
        if error is not None:
            refused += 1
            said = [n for n in given if named(error, n, options[n])]
            if len(said) < (1 if pair == ("sample_by", "text_column") else 2):  # each contradicts the file
                wrong.append((pair, str(error)))
        elif missing := [n for n in pair if not in_force(name, n, given[n], seen)]:
            wrong.append((pair, missing, seen[-300:]))
    assert wrong == [], "\n".join(map(str, wrong))
    assert refused


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train --data d.jsonl --output run --max-steps 10 --epochs 2", ["--max-steps 10", "--epochs 2.0"]),
        ("train --data d.jsonl --output run --max-steps 1000 --epochs 2", ["--max-steps 1000", "--epochs 2.0"]),
        ("train --data d.jsonl --output run --lora-alpha 4", ["--lora-alpha 4.0 without --lora-rank"]),
        ("train --data d.jsonl --output run --momentum 0.9", ["--momentum 0.9", "--optimizer adamw"]),
        ("train --data d.jsonl --output run --validation d.jsonl --validation-split 0.1", ["--validation-split 0.1"]),
        ("train --data d.jsonl --output run --early-stopping 2 --deliver last", ["--deliver last", "--early-stopping"]),
        ("generate --prompt a --no-do-sample --temperature 0.5", ["--no-do-sample", "--temperature 0.5"]),
        ("generate --prompt a --num-beams 4 --top-p 0.5", ["--num-beams 4", "--top-p 0.5", "--do-sample"]),
        ("generate --prompt a -o temperature=1 --temperature 0.5", ["-o temperature=1", "--temperature 0.5"]),
        ("generate --prompt a --overwrite", ["--overwrite without --output"]),
        ("score d.jsonl --format color --no-tokens", ["--no-tokens", "--format color"]),
        ("evaluate --samples two.txt --data d.jsonl --top-k 3", ["--samples two.txt", "--top-k 3"]),
        ("evaluate gpt2 --data d.jsonl --metrics bleu --feature-model x", ["--metrics bleu", "--feature-model x"]),
        ("evaluate gpt2 --data d.jsonl --sweep top_p=0.5,1 --top-p 0.9", ["--sweep top_p=0.5,1", "--top-p 0.9"]),
        ("evaluate-code problems.jsonl --syntax-only --memory 99", ["--syntax-only", "--memory 99"]),
        ("evaluate-code problems.jsonl --run-untrusted-code --run-unconfined", ["--run-untrusted-code", "-unconfined"]),
        ("copies texts.jsonl --source p.txt --format json --show 3", ["--show 3", "--format json"]),
        ("report texts.jsonl --output r.html --pairs 0 --seed 3", ["--pairs 0", "--seed 3"]),
        ("latents p.txt --output l.npy --log-variance", ["--log-variance", "--output l.npy"]),
    ],
)
def test_what_contradicts_itself_is_refused_before_any_work(watched, refused, words, says):
    refused(*words.split(), says=says)
    assert SEEN == []


def test_python_refuses_the_same():
    with pytest.raises(OptionError, match=r"--no-do-sample and --temperature 0\.5.*\n.*do_sample, temperature"):
        GenerationOptions(do_sample=False, temperature=0.5)
    with pytest.raises(OptionError, match="--max-steps 10 and --epochs 2"):
        contradictions.refuse_training(TrainingOptions(max_steps=10, epochs=2).given(), {})
    TrainingOptions(max_steps=10, epochs=2)  # as a run has it whose epochs were counted in updates


def test_the_command_line_overrides_what_contradicts_it_in_a_file(watched, capfd):
    (watched / "o.json").write_text(json.dumps({"epochs": 2.5, "lora_dropout": 0.0, "max_steps": 1000}))
    command, _ = options_of("train")
    error, seen = ran(command, ["--config", "o.json", "--data", "d.jsonl", "--output", "run"], watched, capfd)
    assert error is None and "epochs=2.5" in seen
    words = ["--config", "o.json", "--data", "d.jsonl", "--output", "run", "--max-steps", "7"]
    error, seen = ran(command, words, watched, capfd)
    assert error is None and "max_steps=7" in seen and "epochs=None" in seen


def test_a_rule_counts_zero_as_given_and_a_default_as_nothing():
    needs = [Rule("a", "b", "why", needs=True)]
    refuse(needs, {"a": 1, "b": 0})
    refuse(needs, {"b": 1})
    with pytest.raises(OptionError, match="--a 1 without --b: why"):
        refuse(needs, {"a": 1, "b": None})
    refuse([Rule("a", "b", "why")], {"a": 1}, {"b": 2})


@pytest.mark.parametrize(("given", "told"), [("--prompt", True), ("--prompts", True), ("", False)])
def test_input_that_is_not_read_is_told(place, plain, given, told):
    words = ["generate", "--backend", plain("Plain"), *([given, "p.txt"] if given else [])]
    run = [sys.executable, "-m", "aigc_text", *words]
    with open("two.txt") as stream:
        done = subprocess.run(run, stdin=stream, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and ("Standard input is not read" in done.stderr) == told
    done = subprocess.run(run, input="piped", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    done = subprocess.run(run, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Standard input" not in done.stderr


def test_a_seed_that_decides_nothing_and_a_run_that_is_not_there_are_told(generate, run, plain, tmp_path):
    done = generate("--prompt", "the", "--no-do-sample", seed="5")
    assert "Nothing is drawn without sampling, so --seed 5 decides nothing." in done.err
    words = ["--backend", plain("Plain"), "--prompt", "a", "--format", "jsonl", "--output", tmp_path / "out"]
    assert "There is nothing to resume" in run("generate", *words, "--resume").err


def test_sampling_options_ask_for_sampling_of_a_greedy_model_too(tiny_gpt2, tmp_path):
    import shutil

    from aigc_text import load

    folder = shutil.copytree(tiny_gpt2, tmp_path / "greedy")
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False}))
    model = load("gpt2", str(folder))
    options = model.resolve(None, {"temperature": 0.5})
    assert model.effective(options) | {"do_sample": True, "temperature": 0.5} == model.effective(options)
    with pytest.raises(OptionError, match="--length-penalty 2.0 without --num-beams"):
        model.effective(model.resolve(None, {"length_penalty": 2.0}))


@pytest.mark.parametrize("backend", ["rnn", "vae"])
def test_a_model_of_another_family_is_refused(tiny_gpt2, backend):
    from aigc_text import load

    with pytest.raises(UserError, match=f"of type 'gpt2', and backend '{backend}' takes its own models only") as told:
        load(backend, str(tiny_gpt2))
    assert "--backend gpt2" in str(told.value)
