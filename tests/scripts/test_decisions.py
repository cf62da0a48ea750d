"""What the scripts decide."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import tiny

SCRIPTS = Path(__file__).parents[2] / "scripts"
FOLDERS = ("", "benchmarks", "research", "tools")


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    """Scripts import others that lie beside them."""
    for folder in FOLDERS:
        monkeypatch.syspath_prepend(SCRIPTS / folder)


def script(name):
    (file,) = SCRIPTS.rglob(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_sensible_english_is_recognised():
    check = script("check_text")
    words = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    good = " ".join(words)
    assert check.faults(good, set(words)) == []
    assert check.faults(" ".join(words[:39]), set(words)) == ["only 39 words"]
    assert check.faults(good, set(words[:57])) == ["only 89% of the words are known"]
    assert check.faults(good, set(words[:58])) == []
    again = " ".join([*words, *words[:4], "x", *words[:4]])
    assert check.faults(again, {*words, "x"}) == ["'aa ab ac ad' comes 3 times"]


PROBLEM = "def add_up(numbers):\n    total = 0\n    for number in numbers:\n        total += number\n    return total\n"
OTHER = "def other(a):\n    return a\n"


def test_functions_of_the_benchmark_are_dropped(tmp_path):
    pretrain = script("pretrain")
    (tmp_path / "problems.jsonl").write_text(
        json.dumps({"prompt": PROBLEM[:21], "canonical_solution": PROBLEM[21:], "test": ""}), encoding="utf-8"
    )
    copied = f"import os\n\n\n@cache\n{PROBLEM}\n\n{OTHER}"
    inner = f"class A:\n    def f(self):\n        pass\n\n{OTHER}"
    only = "class B:\n" + "".join(f"    {line}\n" for line in PROBLEM.splitlines())
    records = [{"text": t} for t in (copied, inner, only)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    pretrain.decontaminated(tmp_path / "data.jsonl", tmp_path / "problems.jsonl", tmp_path / "out.jsonl")
    kept = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(kept) == 2  # the class that was left without a body is gone altogether
    assert "add_up" not in kept[0] and "@cache" not in kept[0] and OTHER in kept[0]
    assert kept[1] == inner


def test_text_that_was_seen_costs_little_with_a_primed_compressor(tmp_path):
    pretrain = script("pretrain")
    seen = " ".join(str(n * n) for n in range(3000))
    (tmp_path / "seen.txt").write_text(seen, encoding="utf-8")
    known = pretrain.primed_xz([tmp_path / "seen.txt"], [seen[:5000]])
    new = pretrain.primed_xz([tmp_path / "seen.txt"], [" ".join(str(n**3) for n in range(900))])
    assert known < 0.1 < new


def test_what_ships_is_measured_as_it_ships(tmp_path):
    import torch

    from aigc_text import load

    backend = load("gpt2", str(tiny.save("gpt2", tmp_path / "model")))
    weight = backend.model.transformer.wte.weight
    card = lambda: f"{weight.dtype} {bool((weight.half().float() == weight).all())}"  # noqa: E731
    script("bundle").pack(backend, tmp_path / "out", {"do_sample": True, "top_p": 0.5}, card)
    assert (tmp_path / "out" / "README.md").read_text() == "torch.float32 True"
    assert "\n" not in (tmp_path / "out" / "tokenizer.json").read_text().strip()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float16"
    again = load(str(tmp_path / "out"))
    assert again.name == "gpt2" and again.model.generation_config.top_p == 0.5
    assert torch.equal(again.model.transformer.wte.weight.float(), weight)


@pytest.mark.parametrize("backend", ["gpt2", "vae", "gan"])
def test_the_check_of_a_gpu_runs_on_the_cpu_too(backend, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # the script sets it; taken back after the test
    check = script("check_gpu")
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--device", "cpu", "--tiny", "--backend", backend])
    with pytest.raises(SystemExit) as ended:
        check.main()
    out = capsys.readouterr().out
    cells = out.splitlines()[-1].strip("| ").split(" | ")
    assert ended.value.code == 0, out
    assert cells[0] == backend and len(cells) == 1 + len(check.COLUMNS)
    assert cells[2] == "same loss" and cells[4:7] == ["equal", "yes", "n/a"]


def test_the_check_of_a_gpu_says_what_fails_and_why(monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    check = script("check_gpu")

    def fails(self):
        raise check.Failure("it stays where it is")

    for name in ("resumes", "generates", "batch_sizes"):
        monkeypatch.setattr(check.Check, name, lambda self: "fine")
    monkeypatch.setattr(check.Check, "trains", fails)  # so there is no model for the fourth cell either
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--device", "cpu", "--tiny", "--backend", "gpt2"])
    with pytest.raises(SystemExit) as ended:
        check.main()
    *_, row, empty, first, second = capsys.readouterr().out.splitlines()
    assert ended.value.code == 1
    assert row == "| gpt2 | failed | fine | fine | failed | fine | n/a | – |" and not empty
    assert first == "gpt2, training step, bf16: it stays where it is"
    assert second.startswith("gpt2, greedy text, fp32, against the CPU: there is no folder")


def test_every_trainable_backend_is_checked_on_a_gpu(monkeypatch, capsys):
    from aigc_text.backends.builtin import built_in

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    check = script("check_gpu")
    monkeypatch.setattr(check.Check, "row", lambda self: (["fine"] * len(check.COLUMNS), []))
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--device", "cpu"])
    with pytest.raises(SystemExit):
        check.main()
    rows = capsys.readouterr().out.splitlines()[4:]
    trainable = [name for name, backend in built_in().items() if backend.capabilities.training]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == trainable


def test_the_benchmark_trains_both_on_the_same_rows(monkeypatch, tmp_path, capsys):
    bench = script("bench_train")
    monkeypatch.chdir(tmp_path)
    words = "bench_train.py --size tiny --precision fp32 --steps 2 --pairs 1 --only packed --output bench.json"
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code is None
    found = json.loads((tmp_path / "bench.json").read_text())["results"][0]
    result = bench.Result(**{k: v for k, v in found.items() if k != "ratios"})
    assert bench.disagreement([result]) is None
    result.our_loss *= 1.001
    assert "not the same work" in bench.disagreement([result])
    assert len(found["ratios"]) == 1 and found["ours"][0] > 0
    assert "| made-up | fp32 | packed |" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]


def test_the_benchmark_counts_no_padding(monkeypatch):
    bench = script("bench_train")
    monkeypatch.setattr(bench.transformers.Trainer, "training_step", lambda *args: None)
    trainer = bench.Counting.__new__(bench.Counting)
    mask = bench.torch.tensor([[1, 1, 0], [1, 0, 0]])
    trainer.training_step(None, {"input_ids": mask, "attention_mask": mask})
    trainer.training_step(None, {"input_ids": mask})
    assert [int(n) for n in trainer.tokens] == [3, 6]


@pytest.mark.parametrize("name", ["check", "test"])
def test_the_scripts_can_be_run(name):
    assert (SCRIPTS / name).stat().st_mode & 0o111


def test_the_fine_tuning_script_trains_and_shows_its_texts(tmp_path, monkeypatch, capsys):
    (tmp_path / "my.txt").write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    words = [str(tmp_path / "my.txt"), str(tmp_path / "out"), "--model", str(tiny.save("gpt2", tmp_path / "model"))]
    monkeypatch.setattr(sys, "argv", ["finetune.py", *words, "--max-steps", "20", "--learning-rate", "1e-2"])
    script("finetune").main()
    told = capsys.readouterr().out
    figures = [float(line.split()[2]) for line in told.splitlines() if line.startswith("step ")]
    assert len(figures) == 11 and figures[-1] < figures[0]
    assert told.count("\n--- ") == 3


def test_a_figure_that_texygen_did_not_publish_fails(tmp_path, monkeypatch, capsys):
    check = script("check_texygen")
    texts = ["a man rides a horse .", "a man rides a bike .", "a dog sleeps on a bed .", "a dog sits on a bed ."]
    for name in ("train", "test", "mle"):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts[: 3 if name == "test" else 4]), encoding="utf-8")
    scores = check.Bleu().scores(texts, texts[:3])
    means = tuple(float(each.mean()) for each in scores.values())
    monkeypatch.setattr(sys, "argv", ["check", "--samples", str(tmp_path), "--data", str(tmp_path), "--nltk", "2"])
    own = tuple(float(each.mean()) for each in check.SelfBleu().scores(texts).values())
    for change, code in ((0.0009, 0), (0.0011, 1)):
        monkeypatch.setattr(check, "PUBLISHED", {"mle": (means, None, (*own[:3], own[3] + change))})
        with pytest.raises(SystemExit) as end:
            check.main()
        assert end.value.code == code
        assert f"{change:.5f}" in capsys.readouterr().out
    assert check.disagreement(scores, texts, texts[:3], 4) < 1e-9
    assert check.disagreement(scores, texts, texts, 4) > 0.1


def test_the_plain_vae_has_the_loss_of_ours():
    import torch

    bench = script("bench_vae")
    lines = [f"a {a} sits on a {b}." for a in ("cat", "dog", "man") for b in ("mat", "bed", "red car by the sea")] * 8
    backend, batches, _ = bench.made(lines, "fp32", 1)
    ours, c = backend.model.eval(), backend.model.config
    plain = bench.PlainVAE(c.vocab_size, c.embedding_size, c.hidden_size, c.latent_size, 0.0).eval()
    batch = next(iter(batches))
    mean, log_variance = ours.encode(batch["input_ids"], batch.get("attention_mask"))
    with torch.no_grad():
        plain.read.weight.copy_(ours.encoder.embedding.weight)
        plain.embedding.weight.copy_(ours.embedding.weight)
        for way, suffix in ((ours.encoder.ahead, ""), (ours.encoder.back, "_reverse")):
            for name, weight in way.named_parameters():
                getattr(plain.encoder, name + suffix).copy_(weight)
        for name, weight in ours.decoder.layers[0].named_parameters():
            getattr(plain.decoder, name).copy_(weight)
        for theirs, own in (
            (plain.mean, ours.encoder.mean),
            (plain.log_variance, ours.encoder.log_variance),
            (plain.first, ours.first_state),
            (plain.output, ours.output),
        ):
            theirs.load_state_dict(own.state_dict())
    lengths = (batch["labels"] != -100).sum(1) + 1  # the beginning is read only
    torch.manual_seed(0)
    expected = ours(**batch).loss
    torch.manual_seed(0)
    assert plain(batch["input_ids"], lengths).item() == pytest.approx(expected.item(), rel=1e-4)
    assert next(bench.plain(lines)) > 64 and next(bench.ours(lines, "fp32", 1)) > 64  # tokens of an update


def test_the_plain_discriminator_has_the_scores_of_ours():
    """What the benchmark of the GAN compares is the same work: scores, and gradients of words that are shown."""
    import torch
    import torch.nn.functional as F

    bench = script("bench_gan")
    model = bench.model_of(bench.SMALL, "cpu")
    shape = bench.SMALL
    judge, ids = model.discriminator, torch.randint(0, shape.vocabulary, (3, 14))
    hot = F.one_hot(ids, shape.vocabulary).float()
    assert torch.allclose(judge(judge.embedding(ids)), bench.plain_scores(judge, hot), atol=1e-5)
    gan = bench.PlainGAN(model)
    torch.manual_seed(0)
    shown = gan.draw(2, shape.length)
    assert shown.shape == (2, shape.length, shape.vocabulary)
    assert torch.allclose(shown.sum(2), torch.ones(2, shape.length))
    logs = [next(bench.plain(shape, "cpu")), next(bench.ours(shape, "cpu", "fp32"))]
    for name in ("discriminator_loss", "generator_loss"):  # other draws of the same weights
        assert logs[0][name] == pytest.approx(logs[1][name], abs=0.05), name


def test_who_wins_at_equal_quality():
    captions = script("gan_captions")
    rows = [{"bleu-5": x, "self-bleu-5": y} for x, y in ((0.30, 0.8), (0.22, 0.6), (0.10, 0.2))]
    assert captions.diversity_at(rows, 0.26) == pytest.approx(0.7)
    assert captions.diversity_at(rows, 0.16) == pytest.approx(0.4)
    assert captions.diversity_at(rows, 0.31) != captions.diversity_at(rows, 0.31)  # not reached, not a number
    assert captions.verdict([0.50, 0.51, 0.49], [0.47, 0.48, 0.46]) == "GAN wins"
    assert captions.verdict([0.47, 0.48, 0.46], [0.50, 0.51, 0.49]) == "MLE wins"
    assert captions.verdict([0.500, 0.501, 0.499], [0.493, 0.494, 0.492]) == "no difference"  # under .01
    assert captions.verdict([0.50, 0.60, 0.40], [0.45, 0.55, 0.35]) == "no difference"  # within one deviation
    assert captions.verdict([0.5, float("nan")], [0.4, 0.4]) == "not comparable"


def test_an_ablation_tells_collapse_and_the_best_of_the_adversarial_phase(tmp_path):
    ablation = script("gan_ablation")
    lines = [
        {"step": n, "eval_bleu_ha": ha, "eval_loss": 3.0, "eval_distinct_2": 0.5, "eval_self_bleu_4": 0.3,
         "eval_bleu_4": 0.2}
        for n, ha in ((0, 0.9), (50, 0.31), (100, 0.34), (150, 0.2))
    ]  # fmt: skip
    lines[3]["message"] = "mode collapse: distinct-2 is 0.1"
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = ablation.outcome(tmp_path / "metrics.jsonl")
    assert (found["collapse"], found["start"], found["best"], found["at"]) == ("yes", 0.9, 0.34, 100)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[0]))  # ended before its second validation
    assert ablation.outcome(tmp_path / "metrics.jsonl")["best"] == 0.9
    row = ablation.table([{"cell": "lstm", "loss": "hinge", "stabiliser": "R1", **found}])
    assert "| lstm | hinge | R1 | yes | 0.340 (100) | 3.000 |" in row


def test_the_oracle_judges_as_it_draws():
    import torch

    oracle = script("oracle")
    world = oracle.oracle_of(1)
    words = oracle.draws(world, 400, 2)
    assert words.shape == (400, oracle.LENGTH) and int(words.max()) < oracle.WORDS
    own, hot, cold = (oracle.nll(world, oracle.draws(world, 400, 3, t)) for t in (1.0, 1.5, 0.5))
    assert cold < own < hot  # cooling alone lowers NLL_oracle
    generator = oracle.generator_of("lstm", 16, 0)
    with torch.no_grad():
        half = oracle.cooled(generator, words[:20], 0.5)
        logits = 2 * generator(torch.cat([torch.full((20, 1), oracle.START), words[:20, :-1]], 1)).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), words[:20].flatten())
    assert half == pytest.approx(expected.item(), rel=1e-5)
    assert oracle.uniqueness(torch.tensor([[1, 2], [1, 2], [2, 1]])) == pytest.approx(2 / 3)
