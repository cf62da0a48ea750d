"""The columns of the table that `evaluate` prints; `metric_groups` computes their values."""

from __future__ import annotations

from typing import NamedTuple

HIGHER, LOWER = "↑", "↓"


class Column(NamedTuple):
    """A figure of the table. `better` is `↑`, `↓`, or empty where neither is: nearest to the real data then."""

    group: str
    better: str = ""
    digits: int = 3


COLUMNS = {
    **{f"bleu-{n}": Column("quality and diversity", HIGHER) for n in range(2, 6)},
    **{f"self-bleu-{n}": Column("quality and diversity", LOWER) for n in range(2, 6)},
    "mauve": Column("quality and diversity", HIGHER),
    "sacrebleu": Column("quality and diversity", HIGHER, 2),
    **{f"distinct-{n}": Column("variety") for n in range(1, 5)},
    "uniqueness": Column("variety", HIGHER),
    "novelty": Column("variety"),
    "reference ppl": Column("variety", "", 2),
    "length-mean": Column("lengths and vocabulary", "", 2),
    "length-sd": Column("lengths and vocabulary", "", 2),
    "length-w1": Column("lengths and vocabulary", LOWER, 2),
    "types": Column("lengths and vocabulary", "", 0),
    "unseen-tokens": Column("lengths and vocabulary", "", 4),
    "unigram-jsd": Column("lengths and vocabulary", LOWER, 4),
    "nats/token": Column("likelihood of the data", LOWER, 4),
    "ppl/token": Column("likelihood of the data", LOWER, 2),
    "ppl/word": Column("likelihood of the data", LOWER, 2),
    "ppl/char": Column("likelihood of the data", LOWER, 2),
    "bits/byte": Column("likelihood of the data", LOWER, 4),
    "kind": Column("likelihood of the data"),
}
