"""`PretrainedBackend`: a backend's model and tokenizer, from wherever they are, and back into a folder."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aigc_text.backends.base import Backend
from aigc_text.errors import BackendError, ModelError, OptionError, nearest, one_line, out_of_memory, shell
from aigc_text.hub import ctranslate2, loading, locate, lora, model_files
from aigc_text.hub.ctranslate2 import Converted
from aigc_text.utils import sealed_dir

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
    from typing_extensions import Self

QUANTIZE = ("int8",)


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
    import torch

    from aigc_text.utils import isolation

    kind: Any = make.config_class
    known = kind().to_dict()
    for name in fields:
        if name not in known:
            raise OptionError(f"{kind.__name__} has no field {name!r}.{nearest(name, known)}", cure)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    # A text begins with the same token wherever it is read; see `TransformersBackend.prompt_tokens`.
    ids = {"bos_token_id": end if begin is None else begin, "eos_token_id": end, "pad_token_id": end}
    given = {k: loading.typed(v, known[k]) for k, v in fields.items()}
    model_files.check_counts(given, kind.__name__, OptionError)
    values = {**ids, **defaults, **given}
    try:
        bounded = model_files.bounded(model_files.fresh_bounds(cure))
        with isolation.seeded(0), model_files.building(), bounded, torch.device("meta"):
            make(kind(vocab_size=len(tokenizer), **values))  # without its numbers: only to see how large it would be
        with model_files.building():
            return make(kind(vocab_size=len(tokenizer), **values))
    except OptionError:
        raise
    except Exception as error:  # transformers and its helpers raise many kinds for a bad configuration
        cause = f"{type(error).__name__}: {one_line(str(error))}"[:200]
        raise OptionError(f"no such {make.__name__} can be built: {cause}", cure) from error


def width_and_heads(given: Any, default: int) -> tuple[int, int]:
    """The width of a Transformer, and how many attention heads suit it: about 64 dimensions each, an even number.

    Args:
        given: the width as the user gave it, if so; `fresh` refuses one that is not a whole number.
        default: the width otherwise.
    """
    text = str(default if given is None else given)
    width = int(text) if text.isdecimal() and 0 < int(text) < 1 << 20 else default
    allowed = [heads for heads in range(1, width // 2 + 1) if width % (2 * heads) == 0]
    return width, min(allowed, key=lambda heads: abs(heads - width / 64), default=1)


def _checked_engine(cls: type[PretrainedBackend], engine: str | None, quantize: str | None) -> str:
    """The engine that is meant.

    Raises:
        OptionError: the backend has no such engine, or the engine cannot quantise.
    """
    chosen = cls.engines[0] if engine in (None, "auto") else str(engine)
    if chosen not in cls.engines:
        raise OptionError(
            f"no engine {chosen!r} for this backend.{nearest(chosen, cls.engines)}",
            f"Allowed: auto, {', '.join(cls.engines)}",
        )
    if quantize is not None and quantize not in QUANTIZE:
        raise OptionError(f"unknown quantization {quantize!r}", f"Allowed: {', '.join(QUANTIZE)}")
    if quantize is not None and chosen != "ctranslate2":
        cure = "Add --engine ctranslate2." if "ctranslate2" in cls.engines else "Leave --quantize out."
        raise OptionError(f"the engine {chosen} does not quantise, {quantize} was asked for", cure)
    return chosen


class PretrainedBackend(Backend):
    """Loads and saves a model and a tokenizer of transformers, adapters included; see `TransformersBackend`."""

    #: The class of transformers that loads its models.
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    #: The class of its models where the backend brings its own; it is used directly and need not be registered.
    model_class: ClassVar[type[PreTrainedModel] | None] = None
    #: The hub id used without `model`, if it is cached or can be downloaded.
    hub_id: ClassVar[str] = ""
    #: The folder under `bundled/` that speaks without `model`, or where the hub model cannot be had.
    bundled: ClassVar[str] = ""

    #: The `model_type` of a family that is written here, which loads no other; empty where any of transformers will do.
    model_type: ClassVar[str] = ""

    #: The engines that can decode its models; the first is the one that is meant without a word.
    engines: ClassVar[tuple[str, ...]] = ("torch",)

    def __init__(self, model: PreTrainedModel | Converted, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        #: The model for CTranslate2, where that engine was asked for; then `model` is loaded when something needs it.
        self.converted: Converted | None = None
        self._whole: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]] | None = None
        self.decodes_by = self.engines[0]
        if isinstance(model, Converted):
            self.decodes_by = "ctranslate2"
            self.converted, self.precision = model, model.compute_type
            less = dataclasses.replace(self.capabilities, likelihood="", training=False, saving=False)
            self.capabilities = less  # type: ignore[misc]
        else:
            self.model = model.eval()
            self.source = str(getattr(model, "name_or_path", "") or "")  # `model_checks` refuses what has none
            self.precision = str(getattr(model, "dtype", "")).removeprefix("torch.")
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
        engine: str | None = None,
        quantize: str | None = None,
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
            engine: what decodes: `torch`, `ctranslate2`, or `auto` (the default), which is `torch`: only engines that
                give the same text for the same seed are chosen by themselves.
            quantize: `int8`, with `ctranslate2`.

        Raises:
            ModelError: not found, not reachable, damaged, or not of this family.
            OptionError: an unknown dtype, device or argument; a revision of what is not on the hub.
        """
        if unknown:
            name = next(iter(unknown))
            known = ("revision", "dtype", "device", "trust_remote_code", "config", "engine", "quantize")
            raise OptionError(f"no loading option {name!r}.{nearest(name, known)}", f"Allowed: {', '.join(known)}")
        load = cls._loader(_checked_engine(cls, engine, quantize), quantize, dtype, device, trust_remote_code, config)
        if revision is not None and (locate.is_folder(model) if model is not None else cls.bundled and not cls.hub_id):
            what = f"{model!r} is a path" if model is not None else "the model of this backend ships with the package"
            raise OptionError(f"revision {revision!r} is for models of the hub, and {what}", "Leave --revision out.")
        if model is None:
            return cls._default(revision, load)
        loaded = load(locate.locate(model, revision))
        if model.startswith(locate.BUNDLED_PREFIX):
            loaded.source = model
        return loaded

    @classmethod
    def _loader(
        cls,
        engine: str,
        quantize: str | None,
        dtype: str | None,
        device: str | None,
        trust_remote_code: bool,
        config: Mapping[str, Any] | None,
    ) -> Callable[[dict[str, Any]], Self]:
        """What loads a model from where `hub.locate` found it."""
        if engine == "ctranslate2":
            if config:
                raise OptionError("the engine ctranslate2 takes no changed configuration", "Use --engine torch.")
            place = ctranslate2.best_device(device)
            if quantize is None and dtype is not None and dtype not in loading.DTYPES:
                loading.choose_dtype(dtype, place)  # says what is allowed
            kind = quantize or loading.DTYPES[dtype or "fp32"]
            return lambda where: cls._load_converted(where, kind, place, trust_remote_code)
        place = loading.choose_device(device)
        number = loading.choose_dtype(dtype, place)
        return lambda where: cls._load(where, number, place, trust_remote_code, config)

    @classmethod
    def _default(cls, revision: str | None, load: Callable[[dict[str, Any]], Self]) -> Self:
        """The hub model, or the bundled one, if there is one, and a notice that says why."""
        if not cls.hub_id and not cls.bundled:
            raise ModelError(f"{cls.__name__} has no model of its own", "Give one with --model.")
        if not cls.hub_id:
            return cls._stand_in(load)
        try:
            return load(locate.locate(cls.hub_id, revision))
        except ModelError as error:
            if not cls.bundled:
                raise
            reason = error.message
        print(
            f"Notice: this is the small bundled model {cls.bundled!r}: {reason}.\n"
            + shell("For {} itself, with a network: hf download {}", cls.hub_id, cls.hub_id),
            file=sys.stderr,
        )
        return cls._stand_in(load)

    @classmethod
    def _stand_in(cls, load: Callable[[dict[str, Any]], Self]) -> Self:
        """The model that ships with the package."""
        name = locate.BUNDLED_PREFIX + cls.bundled
        backend = load(locate.locate(name, None))
        backend.source = name
        return backend

    @classmethod
    def _load_converted(cls, where: dict[str, Any], kind: str, device: str, trust_remote_code: bool) -> Self:
        """The model as CTranslate2 has it; what torch would need is loaded when something asks for it."""
        folder = Path(where["pretrained_model_name_or_path"])
        if (folder / locate.ADAPTER_CONFIG).is_file():
            raise OptionError(
                f"{folder} is an adapter, which the engine ctranslate2 cannot load",
                "Merge it first: load(folder).save_pretrained(path, merge=True)",
            )

        def whole() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
            import torch

            if (folder / sealed_dir.MANIFEST).is_file():
                sealed_dir.verify(folder)
            return loading.load_model(where, cls.auto_class, torch.float32, trust_remote_code)

        def plain() -> PreTrainedTokenizerBase:
            return loading.load_plain_tokenizer(where)

        local = folder.is_dir()
        if (folder / sealed_dir.MANIFEST).is_file():  # tokenizer and configuration are read beside what is converted
            sealed_dir.verify(folder)
        revision = sealed_dir.fingerprint(folder) if local else locate.commit_of(str(folder), where.get("revision"))
        found = ctranslate2.converted(f"{folder.name}/{revision}", kind, device, whole, plain)
        backend = cls(found, plain() if found.fast_tokenizer else loading.load_tokenizer(str(folder)))
        backend._whole = whole
        backend.source, backend.revision, backend.is_from_hub = str(folder), revision, not local
        backend.base_revision = revision
        return backend

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model of transformers; with another engine it is loaded when it is first asked for."""
        assert self._whole is not None
        return self._whole()[0].eval()

    def fault(self) -> str | None:
        """The error with which a causal model of transformers answers to a single token, if it does."""
        import torch

        if self.converted is not None:
            return None
        own = type(self.model).__module__.startswith("aigc_text.")  # ours take latents and states besides
        if own or self.auto_class != "AutoModelForCausalLM":
            return None
        try:
            with torch.no_grad():
                self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.model.device))
        except Exception as error:
            return None if out_of_memory(error) else f"{type(error).__name__}: {one_line(str(error))[:150]}"
        return None

    @cached_property
    def own_config(self) -> GenerationConfig:
        """The generation config that came with the model."""
        from transformers import GenerationConfig

        if self.converted is not None:
            return GenerationConfig.from_pretrained(str(self.converted.folder))
        return getattr(self.model, "generation_config", None) or GenerationConfig()  # masked models have none

    @classmethod
    def _check_family(cls, model: str, revision: str | None) -> None:
        """Refuses a model of another family, which would generate under this one's name.

        Raises:
            BackendError: it is one.
        """
        own: Any = cls.model_class
        wanted = own.config_class.model_type if own else cls.model_type
        if not wanted:
            return
        found = locate.read_config(locate.files_of(model, revision)).get("model_type")
        if found != wanted:
            name = wanted.removeprefix("aigc_text_")
            own = [kind for kind in ("rnn", "transformer", "vae", "gan") if found == f"aigc_text_{kind}"]
            cure = f"--backend {own[0]}" if own else "--backend gpt2, or code for programs"
            what = f"the model in {model} is of type {str(found)[:60]!r}"
            raise BackendError(f"{what}, and backend {name!r} takes its own models only", f"Choose {cure}.")

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
        if (folder / sealed_dir.MANIFEST).is_file():
            sealed_dir.verify(folder)
        if (folder / locate.ADAPTER_CONFIG).is_file():
            return cls._load_adapter(folder, dtype, device, trust_remote_code, config)
        cls._check_family(str(folder), where.get("revision"))
        model, tokenizer = loading.load_model(where, cls.auto_class, dtype, trust_remote_code, config, cls.model_class)
        try:
            moved: Any = model
            backend = cls(moved.to(device), tokenizer)
        except RuntimeError as error:
            raise OptionError(f"device {device!r} cannot be used: {error}", "Use --device cpu.") from error
        if folder.is_dir():
            backend.source = str(folder)
            backend.revision = sealed_dir.fingerprint(folder)
        else:
            backend.revision = locate.commit_of(str(where["pretrained_model_name_or_path"]), where.get("revision"))
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
        backend.source, backend.revision, backend.is_from_hub = str(folder), sealed_dir.fingerprint(folder), False
        return backend

    def save_pretrained(self, path: str | Path, *, merge: bool = False) -> None:
        """Writes the model as a folder that `load` reads back.

        Args:
            path: a new folder.
            merge: add a LoRA adapter to the weights first, here and in the folder; else it is saved by itself.

        Raises:
            ModelError: the folder exists.
            BackendError: the model is one for another engine than torch.
        """
        path = Path(path)
        if self.converted is not None:
            raise BackendError("the engine ctranslate2 does not save models", "Load the model with engine='torch'.")
        if path.exists():
            raise ModelError(f"{path} exists already", "Choose a new folder, or remove this one.")
        if merge:
            lora.merge(self)
        sealed_dir.save(path, self.write)

    def write(self, folder: Path) -> None:
        """Writes weights (or the adapter alone), configuration and tokenizer into a folder."""
        if self.name:  # else it was made without the registry, and may be loaded by whichever backend takes it
            setattr(self.model.config, locate.BACKEND_KEY, self.name)
        with model_files.building(), loading.quiet():
            if self.adapter is not None:
                lora.save(self, folder)
            else:
                self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
