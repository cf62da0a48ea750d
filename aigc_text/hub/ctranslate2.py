"""Models converted for CTranslate2: made once, kept in the cache by the model's hash, verified, made again if damaged.

CACHE/ctranslate2/KEY/   model.bin, vocabulary.json, config.json of CTranslate2; generation_config.json; about.json
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_text.errors import DamagedError, ModelError, OptionError, TrainingError, one_line
from aigc_text.utils import lock, sealed_dir

from . import locate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT = 1  # of what is made here
INSTALL = "Install it: pip install 'aigc-text[fast]'"
ABOUT = "about.json"


@dataclass(frozen=True)
class Converted:
    """A converted model.

    Attributes:
        folder: where it lies.
        compute_type: what it computes with, as CTranslate2 calls it.
        device: `cpu` or `cuda`.
        context: most tokens of prompt and text together, or `None`.
        fast_tokenizer: whether the plain tokenizer, which loads without torch, gives the same tokens as its own class.
    """

    folder: Path
    compute_type: str
    device: str
    context: int | None
    fast_tokenizer: bool


def converted(
    key: str,
    compute_type: str,
    device: str,
    load: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]],
    plain: Callable[[], PreTrainedTokenizerBase],
) -> Converted:
    """The converted model, from the cache or made now.

    Args:
        key: tells the model from all others.
        compute_type: `int8` or a float type.
        device: `cpu` or `cuda`.
        load: loads the model, to be taken apart, and its tokenizer.
        plain: loads the tokenizer in the way that needs no torch.

    Raises:
        OptionError: CTranslate2 is not installed, knows no such architecture, or cannot compute so on this device.
        ModelError: the cache cannot be written.
    """
    library = _library()
    able = sorted(library.get_supported_compute_types(device))
    if compute_type not in able:
        raise OptionError(
            f"CTranslate2 cannot compute in {compute_type} on this {device}", f"It can in {', '.join(able)}"
        )
    stored = "int8" if compute_type == "int8" else "float32"
    name = hashlib.sha256(f"{FORMAT}/{library.__version__}/{key}/{stored}".encode()).hexdigest()[:16]
    folder = locate.cache_folder() / "ctranslate2" / name
    if not _whole(folder):
        _make(folder, stored, load, plain)
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    return Converted(folder, compute_type, device, about["context"], about["fast_tokenizer"])


def best_device(wanted: str | None) -> str:
    """The device asked for, or the best there is, in CTranslate2's words."""
    if wanted is None:
        return "cuda" if _library().get_cuda_device_count() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise OptionError(f"the engine ctranslate2 knows no device {wanted!r}", "Allowed: cpu, cuda")
    return wanted


def _library() -> Any:
    try:
        import ctranslate2
    except ImportError:
        raise OptionError("the engine ctranslate2 is not installed", INSTALL) from None
    return ctranslate2


def _whole(folder: Path) -> bool:
    """Whether the converted model is there; a damaged one is told and counts as none."""
    if not folder.is_dir():
        return False
    try:
        sealed_dir.verify(folder)
    except DamagedError as error:
        print(f"Notice: {error.message}. It is converted again.", file=sys.stderr)
        return False
    return True


def _make(folder: Path, stored: str, load: Callable[[], Any], plain: Callable[[], Any]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir() or not _whole(folder):  # another process may have made it meanwhile
                print("Notice: converting the model for CTranslate2, once …", file=sys.stderr)
                model, tokenizer = load()
                sealed_dir.save(folder, lambda place: _write(place, model, tokenizer, stored, plain))
    except OSError as error:
        raise ModelError(
            f"the converted model cannot be written to {folder}: {error.strerror or error}",
            "Set AIGC_TEXT_CACHE to a folder with room for it, or use --engine torch.",
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time; the others wait."""
    while True:
        try:
            held = lock.FolderLock(folder)
            break
        except lock.TakenError:
            time.sleep(0.5)
        except TrainingError as error:
            raise OSError(error.message) from None
    with held:
        yield


def _write(place: Path, model: Any, tokenizer: Any, stored: str, plain: Callable[[], Any]) -> None:
    import torch
    from ctranslate2.converters.converter import Converter
    from ctranslate2.converters.transformers import _MODEL_LOADERS

    class Loaded(Converter):
        def _load(self) -> Any:
            with torch.no_grad():
                return _MODEL_LOADERS[type(model.config).__name__](model, _Numbers(model, tokenizer))

    kind = type(model.config).__name__
    known = [name.removesuffix("Config") for name in _MODEL_LOADERS]
    if kind not in _MODEL_LOADERS:
        raise OptionError(
            f"CTranslate2 does not know the architecture {kind.removesuffix('Config')}",
            f"Use --engine torch. It knows: {', '.join(sorted(known))}",
        )
    try:
        Loaded().convert(str(place), quantization=stored, force=True)
    except (ValueError, NotImplementedError, AttributeError, KeyError) as error:
        cause = one_line(str(error))[:160]
        raise OptionError(f"CTranslate2 cannot convert this {kind}: {cause}", "Use --engine torch.") from error
    model.generation_config.save_pretrained(place)
    context = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    about = {"context": context, "fast_tokenizer": _same_tokens(tokenizer, plain)}
    (place / ABOUT).write_text(json.dumps(about) + "\n", encoding="utf-8")


class _Numbers:
    """A tokenizer as the conversion sees it: tokens are called by their numbers, all that the model has.

    So neither side has to know how the other writes them, nor how many the model has beyond the tokenizer's.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.size, self.tokenizer = model.get_input_embeddings().num_embeddings, tokenizer
        end = model.config.get_text_config(decoder=True).eos_token_id
        self.bos_token = self.eos_token = self.unk_token = str((end[0] if isinstance(end, list) else end) or 0)

    def get_vocab(self) -> dict[str, int]:
        return {str(n): n for n in range(self.size)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


SAMPLES = (
    "",
    "a",
    "The cat sat on the mat.\n\n  def f(x):\n\treturn x",
    "从前有一个国王 🙂 naïve",
    " two  spaces ",
    "1234567,89",
)


def _same_tokens(tokenizer: Any, plain: Callable[[], Any]) -> bool:
    try:
        other = plain()
    except Exception:  # whatever it is, the tokenizer's own class is there
        return False
    special = ("eos_token_id", "bos_token_id", "pad_token_id", "chat_template", "all_special_ids")
    texts = [*SAMPLES, *tokenizer.all_special_tokens]
    return all(getattr(tokenizer, n) == getattr(other, n) for n in special) and all(
        list(tokenizer(t)["input_ids"]) == list(other(t)["input_ids"])
        and tokenizer.decode(tokenizer(t)["input_ids"]) == other.decode(other(t)["input_ids"])
        for t in texts
    )
