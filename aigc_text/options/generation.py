"""What generation can be asked for. Light: the command line reads its options from here."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import ClassVar

from aigc_text.errors import OptionError

from . import contradictions
from .base import Options, option

GREEDY = "For the likeliest token at each step: --no-do-sample"


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Options):
    """How to generate. Names are those of transformers' `GenerationConfig`; `None` is the model's own default."""

    #: Whether a prompt's texts differ even if each takes the likeliest tokens, as where each has a latent of its own.
    greedy_varies: ClassVar[bool] = False

    max_new_tokens: int | None = option(None, "Most tokens to generate after the prompt.", low=1)
    min_new_tokens: int | None = option(None, "Fewest tokens before the text may end.", low=0)
    do_sample: bool | None = option(None, "Sample; if false, take the likeliest token at each step.")
    temperature: float | None = option(
        None, "Divides the scores: under 1 is safer, over 1 is wilder.", above=0, instead=GREEDY
    )
    top_k: int | None = option(
        None, "Sample among the k likeliest tokens only; 0 turns it off.", low=0, instead="To turn it off: --top-k 0"
    )
    top_p: float | None = option(
        None, "Sample among the likeliest tokens whose probabilities add up to p.", above=0, high=1, instead=GREEDY
    )
    min_p: float | None = option(
        None, "Sample among tokens at least this share as likely as the likeliest.", low=0, high=1
    )
    repetition_penalty: float | None = option(
        None,
        "Over 1 makes tokens that already occurred less likely.",
        above=0,
        instead="To turn it off: --repetition-penalty 1",
    )
    no_repeat_ngram_size: int | None = option(None, "Never repeat a run of this many tokens; 0 turns it off.", low=0)
    num_beams: int | None = option(
        None, "Beam search with this many beams; 1 is no beam search.", low=1, instead="To turn it off: --num-beams 1"
    )
    length_penalty: float | None = option(
        None, "Beam search: over 0 favours longer texts, under 0 shorter ones.", low=-20, high=20
    )
    num_return_sequences: int | None = option(None, "Completions for each prompt.", low=1)
    stop_strings: tuple[str, ...] | None = option(None, "End the text before the first of these strings.")
    truncate_prompt: bool | None = option(None, "Cut a prompt that is longer than the context on its left.")
    seed: int | None = option(
        None,
        "Seed of all random draws; without one it is drawn and reported.",
        low=0,
        instead="For a random one leave it out",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        contradictions.refuse_generation({name: getattr(self, name) for name in self.fields()})
        low, high = self.min_new_tokens, self.max_new_tokens
        if low is not None and high is not None and low > high:
            raise OptionError(
                f"min_new_tokens={low} is more than max_new_tokens={high}", "Lower the one, raise the other."
            )
        n = self.num_return_sequences or 1
        if n > 1 and self.do_sample is False and (self.num_beams or 1) == 1 and not self.greedy_varies:
            raise OptionError(
                f"num_return_sequences={n} without sampling would give the same text {n} times",
                "Turn sampling on (--do-sample) or use as many beams (--num-beams).",
            )
        if self.num_beams and self.num_beams > 1 and n > self.num_beams:
            raise OptionError(
                f"num_return_sequences={n} is more than num_beams={self.num_beams}", f"Set num_beams to {n} or more."
            )


def drawn_seed() -> int:
    """A seed for who gave none."""
    return secrets.randbits(31)
