"""Every backend is held to the contract: the built-in ones over six architectures, and two moulds not built yet."""

import pytest
import tiny
import torch
from transformers import GenerationConfig

from aigc_text import load
from aigc_text.backends.base import Backend, Capabilities
from aigc_text.backends.hf.backend import TransformersBackend
from aigc_text.backends.output_checks import sound
from aigc_text.errors import BackendError, OptionError
from aigc_text.generation.engine import Engine, Event
from aigc_text.outputs import Completion, Piece
from aigc_text.testing.contract import ContractError, check_backend

#: The others differ from these in their model alone, and are tried with -m slow.
QUICK_CONTRACTS = (("gpt2", "gpt2"), ("gpt2", "llama"), ("code", "qwen2"))
CONTRACTS = [
    pytest.param(name, kind, marks=() if (name, kind) in QUICK_CONTRACTS else pytest.mark.slow)
    for name in ("gpt2", "code")
    for kind in tiny.CAUSAL
]


@pytest.mark.parametrize(("name", "kind"), CONTRACTS)
def test_causal_models_keep_the_contract(name, kind, tmp_path):
    kept = list(check_backend(name, str(tiny.save(kind, tmp_path / kind))))
    assert len(kept) == 12


@pytest.mark.parametrize(
    "name",
    [*(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "code")), "rnn", "transformer", "vae", "gan"],
)
def test_bundled_models_keep_the_contract(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert len(list(check_backend(name))) == 12


class Seq2Seq(TransformersBackend):
    """An encoder-decoder: the text does not go on from the prompt."""

    capabilities = Capabilities(continues=False, streaming=True, training=True, saving=True)
    auto_class = "AutoModelForSeq2SeqLM"

    def validator(self, texts, options):
        return lambda model: {"loss": 0.0}


class MaskedEngine(Engine):
    """Writes left to right: appends a mask and takes what the model puts into it."""

    def __init__(self, model, mask):
        self.model, self.mask = model, mask

    def config(self, **options):
        from transformers import GenerationConfig

        return GenerationConfig(**options)

    @torch.no_grad()
    def decode(self, rows, config):
        from aigc_text.generation.sampling import gumbel

        texts = [list(row.tokens) for row in rows]
        live = list(range(len(rows)))
        made = 0
        while live:
            events = []
            for n in live:
                scores = self.model(torch.tensor([[*texts[n][-40:], self.mask]])).logits[0, -1].float()
                if rows[n].key is not None:
                    scores = scores + gumbel(torch.tensor([rows[n].key]), made, torch.arange(len(scores)))[0]
                texts[n].append(int(scores.argmax()))
                events.append(Event(n, texts[n][-1], "length" if made + 1 == rows[n].limit else None))
            made += 1
            closed = yield events
            live = [] if made == max(r.limit for r in rows) else [n for n in live if n not in (closed or [])]


class Masked(TransformersBackend):
    """A masked language model on an engine of its own."""

    takes = ("max_new_tokens", "num_return_sequences", "stop_strings", "seed", "do_sample")
    capabilities = Capabilities(streaming=True, training=True, saving=True)
    auto_class = "AutoModelForMaskedLM"

    def engine(self):
        return MaskedEngine(self.model, self.pad())

    def validator(self, texts, options):
        return lambda model: {"loss": 0.0}


@pytest.mark.parametrize(("kind", "cls"), [("t5", Seq2Seq), ("bert", Masked)])
def test_other_moulds_keep_the_contract(kind, cls):
    tokens = tiny.tokenizer()
    assert len(list(check_backend(cls(tiny.model(kind, tokens), tokens)))) == 12


class Careless(Backend):
    """Breaks one promise at a time."""

    broken = ""
    takes = ("max_new_tokens", "num_return_sequences", "stop_strings", "seed")

    @classmethod
    def from_pretrained(cls, model=None, **kwargs):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        options = self.resolve(options, overrides) if self.broken != "refusal" else options
        stops = (getattr(options, "stop_strings", None) or ()) if self.broken != "stop" else ()
        seed = (getattr(options, "seed", None) or 0) if self.broken != "seed" else 3
        n = (getattr(options, "num_return_sequences", None) or 1) if self.broken != "samples" else 1
        for i, prompt in enumerate(prompts if self.broken != "order" else list(prompts)[::-1]):
            for j in range(n):
                words = f" words number {seed} {i} {j} follow".split(" ")[1:]
                words = words[: getattr(options, "max_new_tokens", None)]
                text = "".join(f" {word}" for word in words)
                cut = min([text.index(s) for s in stops if s in text], default=len(text))
                finish = "stop" if cut < len(text) else "length"
                tokens = len(words) if self.broken != "length" else 99
                yield Completion(
                    prompt=prompt,
                    text=text[:cut],
                    prompt_index=i,
                    index=j,
                    seed=seed,
                    tokens=tokens,
                    finish_reason=finish,
                )


def test_a_careful_plain_backend_passes():
    assert len(list(check_backend(Careless))) == 8


@pytest.mark.parametrize("broken", ["refusal", "stop", "seed", "samples", "order", "length"])
def test_the_contract_catches(broken):
    with pytest.raises(ContractError, match="breaks the contract"):
        list(check_backend(type("Broken", (Careless,), {"broken": broken})))


def test_the_contract_catches_one_name_for_two_options(tmp_path):
    from dataclasses import dataclass

    from aigc_text.options.base import option
    from aigc_text.options.generation import GenerationOptions

    @dataclass(frozen=True, kw_only=True)
    class Clashing(GenerationOptions):
        learning_rate: float | None = option(None, "A training option's name.")

    with pytest.raises(ContractError, match="learning_rate"):
        list(check_backend(type("Broken", (Careless,), {"Options": Clashing})))


@pytest.mark.parametrize(
    ("takes", "says"),
    [(("max_new_tokens", "num_return_sequences", "seed"), "stop_strings"), (("max_new_tokenz",), "max_new_tokenz")],
)
def test_the_contract_tells_what_every_backend_takes(takes, says):
    with pytest.raises(ContractError, match=says):
        list(check_backend(type("Broken", (Careless,), {"takes": takes})))


def test_several_samples_of_a_model_that_samples_by_itself(tmp_path):
    folder = tiny.save("gpt2", tmp_path / "m")
    config = GenerationConfig.from_pretrained(folder)
    config.update(do_sample=True, temperature=0.9, max_new_tokens=5)
    config.save_pretrained(folder)
    made = list(load("gpt2", str(folder)).generate(["a"], num_return_sequences=3))
    assert [c.index for c in made] == [0, 1, 2] and max(c.tokens for c in made) == 5


def test_several_texts_without_sampling_are_refused(tmp_path):
    folder = tiny.save("gpt2", tmp_path / "m")
    config = GenerationConfig.from_pretrained(folder)
    config.do_sample = False
    config.save_pretrained(folder)
    with pytest.raises(OptionError, match="num_return_sequences=3 without sampling"):
        list(load("gpt2", str(folder)).generate(["a"], num_return_sequences=3))


def test_prompts_are_refused_by_their_place_where_none_are_taken(tmp_path):
    backend = load("gpt2", str(tiny.save("gpt2", tmp_path / "m")))
    backend.capabilities = Capabilities(prompts=False)
    backend.check_prompts(["", ""])
    for refuse in (backend.check_prompts, lambda prompts: list(backend.generate(prompts, max_new_tokens=2))):
        with pytest.raises(OptionError, match="backend 'gpt2' takes no prompts, prompt 2 is 'a cat'"):
            refuse(["", "a cat", "a dog"])
    backend.capabilities = Capabilities()
    backend.check_prompts(iter(lambda: pytest.fail("a prompt was read"), None))


def test_a_folder_knows_its_backend(tmp_path):
    folder = tmp_path / "saved"
    load("code", str(tiny.save("gpt2", tmp_path / "plain"))).save_pretrained(folder)
    assert load(str(folder)).name == "code"
    assert load(model=str(folder)).name == "code"


def test_a_folder_cannot_choose_a_file_of_code_to_run(tmp_path):
    folder, code = tmp_path / "saved", tmp_path / "mine.py"
    code.write_text("from aigc_text.models.causal_lm import GPT2\nclass Mine(GPT2): pass\n")
    load(f"{code}:Mine", str(tiny.save("gpt2", tmp_path / "plain"))).save_pretrained(folder)
    code.write_text("raise SystemExit('was run')")
    with pytest.raises(BackendError, match="names a file of code") as refused:
        load(str(folder))
    assert refused.value.cure == f"If you trust that file: --backend {code}:Mine"
    code.rename(tmp_path / "moved.py").write_text("from aigc_text.models.causal_lm import GPT2 as Mine")
    assert load(f"{tmp_path}/moved.py:Mine", str(folder)).name == f"{tmp_path}/moved.py:Mine"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("prompt", None), ("text", b"x"), ("text", "\ud800"), ("index", -1), ("prompt_index", "0")),
        *(("finish_reason", None), ("tokens", torch.tensor(3)), ("seed", 1.5), ("exact", None), ("seconds", "fast")),
    ],
)
def test_what_no_record_can_hold_is_told_by_its_name(field, value):
    made = Completion(**{"prompt": "a", "text": "b", field: value})
    name = "text" if field == "text" else f"{field} "
    for item, kind in ((made, Completion), (Piece(prompt_index=0, index=0, text="b", completion=made), Piece)):
        with pytest.raises(BackendError, match=f"'mine' gives a Completion .*{name}"):
            list(sound([item], kind, "mine"))
    whole = Completion(prompt="a", text="b", seed=7, tokens=1, seconds=0.5)
    assert list(sound([whole], Completion, "mine")) == [whole]


def test_a_last_piece_without_its_completion_is_told():
    with pytest.raises(BackendError, match="True where a Completion belongs"):
        list(sound([Piece(prompt_index=0, index=0, text="b", completion=True)], Piece, "mine"))
