"""`PretrainedBackend`: a backend's model and tokenizer, from wherever they are, and back into a folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from . import checkpoint, hub, lora
from .backend import Backend
from .errors import ModelError, OptionError, nearest, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from typing_extensions import Self


def fresh(
    make: type[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    fields: Mapping[str, Any],
    cure: str,
    **defaults: Any,
) -> PreTrainedModel:
    """A model with random weights for a tokenizer.

    Args:
        make: its class, with a `config_class`.
        tokenizer: decides the vocabulary and the end of a text.
        fields: of its configuration; text is read as the field's type.
        cure: what an error says of the fields.
        defaults: fields that stand where `fields` does not say otherwise.

    Raises:
        OptionError: a field that the configuration does not have, or sizes that do not fit each other.
    """
    kind: Any = make.config_class
    known = kind().to_dict()
    for name in fields:
        if name not in known:
            raise OptionError(f"{kind.__name__} has no field {name!r}.{nearest(name, known)}", cure)
    end = tokenizer.eos_token_id
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    given = {k: hub.typed(v, known[k]) for k, v in fields.items()}
    try:
        return make(kind(vocab_size=len(tokenizer), **{**ids, **defaults, **given}))
    except Exception as error:  # transformers and its helpers raise many kinds for a bad configuration
        cause = f"{type(error).__name__}: {one_line(str(error))}"[:200]
        raise OptionError(f"no such {make.__name__} can be built: {cause}", cure) from error


class PretrainedBackend(Backend):
    """Loads and saves a model and a tokenizer of transformers, adapters included; see `TransformersBackend`."""

    #: The class of transformers that loads its models.
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    #: The hub id used without `model`, if it is cached or can be downloaded.
    hub_id: ClassVar[str] = ""
    #: The folder under `bundled/` that speaks without `model`, or where the hub model cannot be had.
    bundled: ClassVar[str] = ""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.source = str(model.name_or_path or "")
        self.precision = str(model.dtype).removeprefix("torch.")
        #: The adapter in the model, of peft, if there is one; see `lora`.
        self.adapter: Any = None
        #: The hash or commit of the model without its adapter.
        self.base_revision = ""
        self.is_from_hub = False

    @classmethod
    def from_pretrained(
        cls,
        model: str | None = None,
        *,
        revision: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        trust_remote_code: bool = False,
        config: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> Self:
        """Loads a model.

        Args:
            model: a hub id or a folder: exactly that or an error. `None` is the backend's hub model if it is in
                the cache or can be downloaded, else the small bundled one, with a notice on standard error.
            revision: of the hub model: a branch, tag or commit.
            dtype: `fp32`, `bf16` or `fp16`; by default fp32 on the CPU and bf16 on an accelerator that has it.
            device: `cpu`, `cuda`, `mps` …; by default the best there is.
            trust_remote_code: run code that comes with the model.
            config: fields of its configuration to set otherwise, such as `{"attn_pdrop": 0.1}`.

        Raises:
            ModelError: not found, not reachable, damaged, or not of this family.
            OptionError: an unknown dtype, device or argument.
        """
        if unknown:
            name = next(iter(unknown))
            known = ("revision", "dtype", "device", "trust_remote_code", "config")
            raise OptionError(f"no loading option {name!r}.{nearest(name, known)}", f"Allowed: {', '.join(known)}")
        place = hub.choose_device(device)
        kind = hub.choose_dtype(dtype, place)
        if model is None:
            return cls._default(revision, kind, place, config)
        loaded = cls._load(hub.locate(model, revision), kind, place, trust_remote_code, config)
        if model.startswith(hub.BUNDLED_PREFIX):
            loaded.source = model
        return loaded

    @classmethod
    def _default(cls, revision: str | None, dtype: Any, device: str, config: Mapping[str, Any] | None) -> Self:
        """The hub model, or the bundled one and a notice that says why."""
        if not cls.hub_id and not cls.bundled:
            raise ModelError(f"{cls.__name__} has no model of its own", "Give one with --model.")
        if not cls.hub_id:
            return cls._stand_in(dtype, device, config)
        try:
            return cls._load(hub.locate(cls.hub_id, revision), dtype, device, False, config)
        except ModelError as error:
            reason = error.message
        print(
            f"Notice: the small bundled model {cls.bundled!r} speaks: {reason}.\n"
            f"For the real one, with a network: hf download {cls.hub_id}",
            file=sys.stderr,
        )
        return cls._stand_in(dtype, device, config)

    @classmethod
    def _stand_in(cls, dtype: Any, device: str, config: Mapping[str, Any] | None) -> Self:
        """The model that ships with the package."""
        name = hub.BUNDLED_PREFIX + cls.bundled
        backend = cls._load(hub.locate(name, None), dtype, device, False, config)
        backend.source = name
        return backend

    @classmethod
    def _load(
        cls,
        where: dict[str, Any],
        dtype: Any,
        device: str,
        trust_remote_code: bool,
        config: Mapping[str, Any] | None = None,
    ) -> Self:
        folder = Path(where["pretrained_model_name_or_path"])
        if (folder / checkpoint.MANIFEST).is_file():
            checkpoint.verify(folder)
        if (folder / hub.ADAPTER_CONFIG).is_file():
            return cls._load_adapter(folder, dtype, device, trust_remote_code, config)
        model, tokenizer = hub.load_model(where, cls.auto_class, dtype, trust_remote_code, config)
        try:
            moved: Any = model
            backend = cls(moved.to(device), tokenizer)
        except RuntimeError as error:
            raise OptionError(f"device {device!r} cannot be used: {error}", "Use --device cpu.") from error
        if folder.is_dir():
            backend.source = str(folder)
            backend.revision = checkpoint.fingerprint(folder)
        else:
            backend.revision = hub.commit_of(str(where["pretrained_model_name_or_path"]), where.get("revision"))
            backend.is_from_hub = True
        backend.base_revision = backend.revision
        return backend

    @classmethod
    def _load_adapter(
        cls, folder: Path, dtype: Any, device: str, trust_remote_code: bool, config: Mapping[str, Any] | None
    ) -> Self:
        """The base that an adapter names, with the adapter in it."""
        backend = cls._load(lora.base_of(folder), dtype, device, trust_remote_code, config)
        lora.load(backend, folder)
        backend.source, backend.revision, backend.is_from_hub = str(folder), checkpoint.fingerprint(folder), False
        return backend

    def save_pretrained(self, path: str | Path, *, merge: bool = False) -> None:
        """Writes the model as a folder that `load` reads back.

        Args:
            path: a new folder.
            merge: add a LoRA adapter to the weights first, here and in the folder; else it is saved by itself.

        Raises:
            ModelError: the folder exists.
        """
        path = Path(path)
        if path.exists():
            raise ModelError(f"{path} exists already", "Choose a new folder, or remove this one.")
        if merge:
            lora.merge(self)
        checkpoint.save(path, self.write)

    def write(self, folder: Path) -> None:
        """Writes weights (or the adapter alone), configuration and tokenizer into a folder."""
        hub.quiet(local=True)
        setattr(self.model.config, hub.BACKEND_KEY, self.name)
        if self.adapter is not None:
            lora.save(self, folder)
        else:
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
