"""Small runs of every kind that a page shows, written as the commands write them."""

import json
import struct
import zlib

from aigc_text.evaluation.results import Report, Row

LINE = "a man rides his horse on the beach while two dogs watch from one wooden boat near some rocks"
WORDS = LINE.split()


def texts(count: int, start: int = 0, word: str = "") -> list[str]:
    """Texts that all differ, of 3 to 8 words."""
    return [" ".join([*(WORDS[(start + n * k) % 17] for k in range(1, 4 + n % 6)), word]).strip() for n in range(count)]


def records(path, items, prompts=None):
    """A file as `aigc-text generate --format jsonl --output` writes it."""
    with path.open("w", encoding="utf-8") as stream:
        for n, text in enumerate(items):
            prompt = prompts[n % len(prompts)] if prompts else ""
            record = {"prompt": prompt, "text": text, "prompt_index": n, "index": 0, "backend": "gpt2", "seed": 1}
            stream.write(json.dumps(record) + "\n")
    return path


def training(folder, losses=(4.0, 3.0, 2.5), every=10, samples=(), **options):
    """A training run's folder: a loss a step, a validation every so many."""
    folder.mkdir()
    lines = []
    for step in range(1, every * len(losses) + 1):
        found = {"step": step, "loss": 5 - step / 100, "learning_rate": 1e-3}
        if step % every == 0:
            loss = losses[step // every - 1]
            found |= {"eval_loss": loss, "eval_bits_per_byte": loss / 2}
        lines.append(json.dumps(found) + "\n")
    (folder / "metrics.jsonl").write_text("".join(lines))
    (folder / "options.json").write_text(json.dumps({"backend": "rnn", "learning_rate": 1e-3, **options}))
    if samples:
        drawn = [{"step": step, "prompt": "", "text": t, "index": 0} for step in (10, 20) for t in samples]
        (folder / "samples.jsonl").write_text("".join(json.dumps(d) + "\n" for d in drawn))
    return folder


def logged(folder, lines):
    """A training run's folder with these lines of figures."""
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


#: A VAE that collapses at update 20, and whose loss is not the bound.
VAE = [
    {
        "step": step, "loss": 50.0 - step, "bound": 51.0 - step, "reconstruction": 50.0 - step, "kl": 1.0,
        "encoder_learning_rate": 1e-3, "decoder_learning_rate": 1e-3, "eval_loss": 5.0 - step / 10, "eval_kl": 0.1,
        "eval_bits_per_byte": 2.0, "eval_bound": 52.0 - step, "eval_reconstruction": 51.0 - step,
        "eval_active_units": 0.0, "eval_posterior_collapse": float(step > 10), "loss_unit": "nats per sentence",
    }
    for step in (10, 20, 30)
]  # fmt: skip
#: A GAN: an update by likelihood, then adversarial ones, of which two validations find a collapse.
GAN = [
    {
        "step": step, "generator_loss": 4.0 if step == 10 else 0.7, "generator_learning_rate": 1e-3,
        "discriminator_learning_rate": 2e-3, "eval_loss": 4.0 + step / 10, "eval_uniqueness": 0.9, "eval_bleu_4": 0.3,
        "eval_self_bleu_4": 0.5,
        **({"generator_nll": 4.0} if step == 10 else {"discriminator_loss": 0.6}),
        **({"eval_mode_collapse": float(step > 20)} if step > 10 else {}),
        **({"rolled_back_to": 10.0} if step == 30 else {}),
    }
    for step in (10, 20, 30, 40)
]  # fmt: skip


PROTOCOL = {"data": "test.txt", "references": 9, "train": 9, "samples": 40, "seed": 0, "tokenize": "words"}
PROTOCOL |= {"sampling": "pure", "version": "1", "complete": True, "quality": "bleu-3", "diversity": "self-bleu-3"}


def row(label, quality, diversity, **at):
    values = {"bleu-3": quality, "self-bleu-3": diversity, "uniqueness": 1.0}
    return Row(label=label, at=at, samples=40, values=values, errors={"bleu-3": 0.01, "self-bleu-3": 0.02})


def evaluation(folder, labels=("rnn", "gan"), word="", count=40):
    """An evaluation's folder: two points of a sweep a label."""
    folder.mkdir()
    (folder / "samples").mkdir()
    rows = [Row(label="real data", samples=40, values={"bleu-3": 0.5, "self-bleu-3": 0.6})]
    for n, label in enumerate(labels):
        for at, gain in ((0.5, 0.2), (1.0, 0.0)):
            rows.append(row(label, 0.4 + gain - n / 10, 0.5 + gain, temperature=at))
            name = "".join(c if c.isalnum() or c in "-_.=" else "_" for c in rows[-1].name)
            records(folder / "samples" / f"{name}.jsonl", texts(count, n + round(10 * at), word))
    Report(protocol=PROTOCOL, rows=rows, findings=["rnn dominates gan at bleu-3."]).write(folder)
    return folder


def copies(path, label="rnn", text="he said to be or not to be that is the question", place="train.txt:7", prompt=""):
    start = text.index(" ") + 1 if " " in text else 0
    figures = {"texts": 40, "mean": 2.5, "median": 2.0, "p95": 6.0, "max": 9, "share_over": 0.05}
    figures["histogram"] = [[1, 10], [2, 20], [6, 8], [9, 2]]
    copy = {"label": label, "prompt": prompt, "text": text, "length": 9, "start": start, "end": len(text)}
    short = {**copy, "text": "a short one", "length": 2, "start": 0, "end": 7, "place": "train.txt:1"}
    found = {"kind": "copies", "label": label, "source": "train.txt", "threshold": 5, "unit": "words"}
    found |= {"outputs": figures, "held_out": {**figures, "mean": 1.5}, "texts": [short, {**copy, "place": place}]}
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def png(path):
    """A picture of two by two points."""

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = part(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0))
    body += part(b"IDAT", zlib.compress(b"\0\x80\x10\x10\x10\x80\x10" * 2)) + part(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def everything(folder):
    """One run of every kind."""
    return [
        training(folder / "small", samples=texts(12, 3), seed=1),
        training(folder / "large", losses=(4.5, 2.5, 2.0), samples=texts(12, 5), seed=2),
        evaluation(folder / "comparison"),
        copies(folder / "copied.json"),
        png(folder / "latents.png"),
    ]
