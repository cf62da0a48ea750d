"""The engine `ctranslate2`: models converted once, in int8 if asked for. It needs no torch.

CTranslate2 (https://opennmt.net/CTranslate2) draws with a generator of its own, not with a stream for each completion.
So a seed repeats a run only where prompts, batches and threads are the same, and no text is promised to be that of
another engine, except where nothing is drawn.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import ctranslate2

from aigc_text.errors import OptionError
from aigc_text.generation.engine import Engine, Event, Row, ends_of, merged
from aigc_text.options.generation import GenerationOptions

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from aigc_text.hub.ctranslate2 import Converted

_seeding = threading.Lock()
WAIT = 0.2  # seconds without news after which it is asked whether the work has failed
#: Fields of a generation config that change texts and that CTranslate2 has nothing for, with what they are when off.
LACKS: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "min_p": (None, 0, 0.0),
    "repetition_penalty": (None, 1, 1.0),  # it has one, which overlooks the prompt
    "typical_p": (None, 1, 1.0),
    "top_h": (None,),
    "epsilon_cutoff": (None, 0, 0.0),
    "eta_cutoff": (None, 0, 0.0),
    "bad_words_ids": (None,),
    "sequence_bias": (None,),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "guidance_scale": (None, 1, 1.0),
    "watermarking_config": (None,),
    "encoder_no_repeat_ngram_size": (None, 0),
    "min_length": (None, 0),
    "remove_invalid_values": (None, False),
}


class CTranslate2Engine(Engine):
    """Decodes with a converted model.

    Args:
        model: where it lies, and what is known of it.
        config: the model's own generation config.
    """

    name = "ctranslate2"
    seeded = False

    def __init__(self, model: Converted, config: GenerationConfig) -> None:
        self.model, self.own = model, config
        self.generator: Any = None

    def for_request(self) -> CTranslate2Engine:
        """What is drawn begins anew with each request, so each has a generator, and its threads, of its own."""
        return CTranslate2Engine(self.model, self.own)

    def context(self) -> int | None:
        return self.model.context

    def config(self, **options: Any) -> GenerationConfig:
        config = merged(self.own, options)
        for name, off in LACKS.items():
            if (value := getattr(config, name, None)) not in off:
                whose = "" if options.get(name) is not None else ", which the model itself asks for"
                flag = f", or leave it out: --{name.replace('_', '-')} {off[-1]}"
                ours = name in GenerationOptions.fields()
                raise OptionError(
                    f"the engine ctranslate2 has no {name}={value}{whose}", f"Use --engine torch{flag if ours else ''}"
                )
        return config

    def decode(self, rows: Sequence[Row], config: GenerationConfig) -> Generator[list[Event], list[int] | None, None]:
        generator = self._loaded(rows, config)
        ends, finished = ends_of(config), set()
        prompts, left = [list(row.tokens) for row in rows], [row.limit for row in rows]
        for n, row in enumerate(rows):
            for token in self._begun(generator, row, config) if row.allowed else ():
                prompts[n].append(token)
                left[n] -= 1
                finish = "stop" if token in ends else "length" if not left[n] else None
                closed = (yield [Event(n, token, finish)]) or []
                if finish or closed:
                    finished.add(n)
        # Beside a prompt of one token CTranslate2 takes the others' for what was generated.
        for single in (True, False):
            live = [n for n in range(len(rows)) if n not in finished and (len(prompts[n]) == 1) is single]
            if live:
                yield from self._rest(generator, live, [prompts[n] for n in live], [left[n] for n in live], config)

    def _rest(
        self, generator: Any, rows: list[int], prompts: list[list[int]], left: list[int], config: GenerationConfig
    ) -> Generator[list[Event], list[int] | None, None]:
        """Decodes rows to their ends. CTranslate2 tells of each token in a thread of its own."""
        told: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        ends = ends_of(config)
        closed: set[int] = set()
        counts = list(left)  # tokens that are still wanted, as the other thread counts them

        def tell(result: Any) -> bool:
            counts[result.batch_id] -= 1
            told.put((result.batch_id, result.token_id))
            return result.batch_id in closed or counts[result.batch_id] <= 0

        work = generator.generate_batch(
            [list(map(str, prompt)) for prompt in prompts], asynchronous=True, callback=tell, max_length=max(left),
            **self._asked(config, max(left)),
        )  # fmt: skip
        try:
            while len(closed) < len(rows):
                events = []
                for n, token in _next(told, work):
                    if n in closed:
                        continue
                    left[n] -= 1
                    finish = "stop" if token in ends else "length" if not left[n] else None
                    if finish:
                        closed.add(n)
                    events.append(Event(rows[n], token, finish))
                ended = set((yield events) or ())
                closed.update(n for n, row in enumerate(rows) if row in ended)
        finally:
            closed.update(range(len(rows)))  # whoever stops listening stops the work

    def _asked(self, config: GenerationConfig, longest: int) -> dict[str, Any]:
        """The options in CTranslate2's words."""
        ends = [str(i) for i in sorted(ends_of(config))]
        drawn = {
            "sampling_topk": config.top_k or 0,
            "sampling_topp": 1.0 if config.top_p is None else config.top_p,
            "sampling_temperature": config.temperature or 1.0,
        }
        return {
            "include_prompt_in_result": False,
            "end_token": ends or None,
            "min_length": min(config.min_new_tokens or 0, longest) if ends else longest,
            "no_repeat_ngram_size": config.no_repeat_ngram_size or 0,
            **(drawn if config.do_sample else {"sampling_topk": 1}),
        }

    def _loaded(self, rows: Sequence[Row], config: GenerationConfig) -> Any:
        """The model in memory, with the seed of the request's first row."""
        if self.generator is None:
            kinds = {"compute_type": self.model.compute_type, "device": self.model.device}
            generator = ctranslate2.Generator(str(self.model.folder), **kinds)
            if config.do_sample:
                # There is one seed in a process. A generator's thread reads it when it first draws, so it does here.
                with _seeding:
                    ctranslate2.set_random_seed((rows[0].key or 0) & 0x7FFFFFFF)
                    generator.generate_batch([[str(rows[0].tokens[0])]], max_length=1, sampling_topk=0)
            self.generator = generator
        return self.generator

    def _begun(self, generator: Any, row: Row, config: GenerationConfig) -> list[int]:
        """The first tokens of a row that may not begin with all of them, drawn as the engine `torch` draws them."""
        import numpy as np
        import torch

        from aigc_text.generation.sampling import Sampler

        made: list[int] = []
        sampler = Sampler(config.temperature or 1.0, config.top_k or None, config.top_p or 1.0)
        while len(made) < row.limit and row.allowed and (mask := row.allowed(made)) is not None:
            found = generator.forward_batch([list(map(str, [*row.tokens, *made]))])
            scores = torch.from_numpy(np.array(found)[:, -1].astype("float32"))  # (1, V)
            scores[:, : len(mask)].masked_fill_(~mask, -torch.inf)
            scores[:, len(mask) :] = -torch.inf
            if config.do_sample and row.key is not None:
                made.append(int(sampler(scores, torch.tensor([row.key]), len(made))))
            else:
                made.append(int(scores.argmax()))
            if made[-1] in ends_of(config):
                break
        return made


def _next(told: queue.SimpleQueue[tuple[int, int]], work: list[Any]) -> list[tuple[int, int]]:
    """What was told since: (place in the batch, token), one at least."""
    while True:
        try:
            found = [told.get(timeout=WAIT)]
        except queue.Empty:
            if all(part.done() for part in work) and told.empty():
                for part in work:
                    part.result()  # raises what went wrong
                raise RuntimeError("CTranslate2 ended a text without telling") from None
            continue
        while not told.empty():
            found.append(told.get())
        return found
