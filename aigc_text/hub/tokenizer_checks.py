"""What libraries say of broken models and tokenizers, as the user's errors: exceptions, panics, wrong numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aigc_text.errors import ModelError, UserError, one_line
from aigc_text.utils.file_descriptors import PANIC, panics_muted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def first_sentence(error: BaseException) -> str:
    return one_line(str(error) or type(error).__name__)[:200]


@contextmanager
def said(what: str, cure: Callable[[BaseException], str]) -> Iterator[None]:
    """Turns whatever a library raises for a bad file into one `ModelError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # transformers and its helpers raise many kinds
        raise ModelError(f"{what}: {first_sentence(error)}", cure(error)) from error
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise ModelError(f"{what}: {first_sentence(error)}", cure(error)) from error


TRIED = ("a", "The cat sat.\n\n  def f(x):\n\treturn 1,2", "从前 🙂 naïve", " two  spaces ")


def tried(load: Callable[..., Any], where: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """A tokenizer that has divided and joined a few texts.

    A broken one may fail only then, in Rust, which writes of it to standard error itself before Python hears of it.
    """
    with panics_muted():
        tokenizer: PreTrainedTokenizerBase = load(**where)
        for text in TRIED:
            tokenizer.decode(tokenizer(text, verbose=False)["input_ids"])
    return tokenizer


def _check_generation(name: str, config: Any) -> None:
    """Refuses special tokens that are no numbers; one that the model does not have is never met, and does no harm."""
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(config, field, None)
        for number in value if isinstance(value, list) else [value]:
            if number is None or (type(number) is int and -(2**63) <= number < 2**63):
                continue
            raise ModelError(
                f"model {name!r}: {field} in its generation_config.json is {repr(value)[:60]}, which is no token",
                "Correct it there, or download or save the model again.",
            )


def check_ids(name: str, model: Any, tokenizer: Any) -> None:
    """Refuses a tokenizer whose tokens the model does not have; of those added later, only what ends or fills texts."""
    _check_generation(name, getattr(model, "generation_config", None))
    try:
        size = getattr(model.get_input_embeddings(), "num_embeddings", None)
    except NotImplementedError:  # a class of one's own need not say where its embeddings are
        size = getattr(model.config, "vocab_size", None)
    if size is None:
        return
    fast = getattr(tokenizer, "backend_tokenizer", None)
    words = fast.get_vocab(with_added_tokens=False) if fast is not None else {}
    special = {str(n): getattr(tokenizer, n) for n in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # Many a config.json has ends of a text that are another vocabulary's, and -1 for no padding; neither is ever read.
    pad = getattr(model.config, "pad_token_id", None)
    own = {"pad_token_id": pad} if pad != -1 else {}
    for token, number in (*words.items(), *special.items(), *own.items()):
        if isinstance(number, int) and not 0 <= number < size:
            raise ModelError(
                f"model {name!r}: the token {token[:40]!r} has the number {number}, the model has {size} tokens",
                "The tokenizer does not belong to the weights; download or save the model again.",
            )
