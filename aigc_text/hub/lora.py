"""LoRA (Hu et al. 2022) through peft: a small trained difference beside a model that stays as it is.

An adapter's layers are put into the model itself, so generation, training and likelihood see no other model. A folder
with an adapter names its base, and loading finds it. The functions take a model and its adapter (the model of peft
around it), and return an adapter or a model.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aigc_text.errors import ModelError, OptionError, one_line, shell

from . import locate, model_files

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend
    from aigc_text.options.training import TrainingOptions

ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_KEY = "aigc_text_base"  # in the adapter's config.json: the hash or commit of the base that it was trained on


class Base(NamedTuple):
    """Where a model came from, as an adapter's folder names it.

    Attributes:
        source: a hub id or a folder.
        revision: of the hub model, or a hash.
        is_from_hub: whether `source` is a hub id.
    """

    source: str
    revision: str
    is_from_hub: bool

    def name(self) -> str:
        """Where the base will be looked for; a folder by its full path, for an adapter may be loaded from anywhere."""
        folder = locate.expanded(self.source)
        return str(folder.resolve()) if folder.is_dir() and not self.is_from_hub else self.source


def attach(model: Any, adapter: Any, options: TrainingOptions, base: Base, task: str | None) -> Any:
    """Freezes a model and adds an adapter to be trained, or goes on with the one it has.

    Args:
        model: of transformers.
        adapter: the one in the model, if there is one.
        options: `lora_rank` and what goes with it.
        base: where the model came from.
        task: what peft calls the model's task; `None` for one that is no causal language model.

    Returns:
        The adapter.

    Raises:
        OptionError: peft is missing, no such layers, or the model has an adapter of another rank.
    """
    peft = _peft()
    if adapter is not None:
        _go_on(model, adapter, options, base)
        return adapter
    from aigc_text.utils.isolation import seeded

    targets: Any = "all-linear" if options.lora_targets is None else list(options.lora_targets)
    if not targets:
        raise OptionError("lora_targets names no layer", "Name some, or leave it out for all linear layers.")
    config = peft.LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha or 2 * (options.lora_rank or 0),
        lora_dropout=options.lora_dropout,
        target_modules=targets,
        task_type=task,
        revision=base.revision if base.is_from_hub else None,
    )
    with seeded(options.seed), model_files.building(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that hold their weights transposed, which it sees to
        try:
            adapter = peft.get_peft_model(model, config)
        except ValueError as error:
            names = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if _is_linear(m)})
            raise OptionError(
                f"lora_targets {targets}: {one_line(str(error))[:120]}",
                f"Linear layers of the model: {', '.join(names)}",
            ) from error
    config.base_model_name_or_path = base.name()  # peft puts there what the model was loaded as, relative or not
    return adapter


def _go_on(model: Any, adapter: Any, options: TrainingOptions, base: Base) -> None:
    rank = next(iter(adapter.peft_config.values())).r
    if rank != options.lora_rank:
        raise OptionError(
            f"the adapter in {base.source} has lora_rank {rank}, not {options.lora_rank}",
            f"Go on with --lora-rank {rank}; without it the merged model is trained in full.",
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def save(model: Any, adapter: Any, folder: Path, base_revision: str) -> None:
    """Writes the adapter, and a config.json that names the backend and the state of the base."""
    adapter.save_pretrained(str(folder))
    setattr(model.config, BASE_KEY, base_revision)
    model.config.save_pretrained(folder)


def check_base(backend: Backend, adapter: Any, rank: int) -> None:
    """Refuses to train an adapter that nothing could load, since its base is saved nowhere.

    Raises:
        OptionError: the model was made from scratch or in Python.
    """
    if adapter is not None or (backend.source and not backend.origin.get("from_scratch")):
        return
    if backend.origin.get("from_scratch"):
        what = f"--from-scratch and --lora-rank {rank} (from_scratch, lora_rank) exclude each other"
        cure = "Leave --lora-rank out, or adapt a saved model: --model FOLDER instead of --from-scratch."
    else:
        what = f"lora_rank={rank} for a model that was not loaded from anywhere"
        cure = "Save it and load it again: backend.save_pretrained(folder); backend = load(folder)"
    raise OptionError(f"{what}: an adapter is saved without its base, which could not be found again", cure)


def base_of(folder: Path) -> dict[str, Any]:
    """The arguments with which transformers finds the base of the adapter in a folder.

    A relative path is looked up in the working folder, then beside the adapter.

    Raises:
        ModelError: the folder does not say, or its base is not there.
    """
    name, revision = _base_named(folder)
    seen = {os.path.realpath(folder)}
    below = name
    while os.path.isfile(locate.expanded(below) / locate.ADAPTER_CONFIG):  # an adapter on an adapter
        if (real := os.path.realpath(locate.expanded(below))) in seen:
            raise ModelError(f"the adapter in {folder} comes back to itself as its base", "Restore it from a copy.")
        seen.add(real)
        below, _ = _base_named(locate.expanded(below))
    try:
        return locate.locate(name, revision)
    except ModelError as error:
        place = folder.absolute() / name
        if locate.is_folder(name):
            cure = shell("Put it there again: ln -s NEW_PLACE {}", place)
        else:
            link = shell("ln -s FOLDER {}", place)
            cure = f"With a network: {locate.download(name, revision)}. If it is a folder: {link}"
        raise ModelError(f"the adapter in {folder} needs its base model {name!r}: {error.message}", cure) from None


def _base_named(folder: Path) -> tuple[str, str | None]:
    """The base that the adapter in a folder names, and which revision of it."""
    path = folder / locate.ADAPTER_CONFIG
    config = model_files.read_object(path)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not (isinstance(name, str) and name and "\0" not in name and isinstance(revision, (str, type(None)))):
        cause = f"base_model_name_or_path is {ascii(name)[:100]}"
        raise ModelError(f"{path} does not name the adapter's base: {cause}", "Restore it from a copy.")
    if config.get("megatron_config"):  # peft imports whatever module megatron_core names
        raise ModelError(f"{path} has a megatron_config, which names code to be run", "Save the adapter without it.")
    beside = folder / name
    if not locate.expanded(name).exists() and ".." not in Path(name).parts and beside.is_dir():
        return str(beside.absolute()), revision
    return name, revision


def load(model: Any, folder: Path, base_revision: str) -> Any:
    """Puts the adapter of a folder into a loaded base.

    Args:
        model: the base.
        folder: of the adapter.
        base_revision: the hash or commit of the base.

    Returns:
        The adapter.

    Raises:
        ModelError: the adapter is broken, or not of this base.
    """
    peft = _peft()
    model_files.refuse_links(folder)
    if not (folder / ADAPTER_WEIGHTS).is_file():  # peft would take a pickled adapter_model.bin, or ask the hub
        raise ModelError(f"the adapter in {folder} has no {ADAPTER_WEIGHTS}", "Save the adapter again with peft.")
    model_files.header(folder / ADAPTER_WEIGHTS)
    with model_files.building(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            adapter = peft.PeftModel.from_pretrained(model, str(folder))
        except Exception as error:  # peft and its helpers raise many kinds for a bad adapter
            cause = one_line(str(error) or type(error).__name__)[:200]
            raise ModelError(f"the adapter in {folder} cannot be loaded: {cause}", "Restore it from a copy.") from error
    missing = [str(w.message) for w in caught if "missing adapter keys" in str(w.message)]
    if missing:
        raise ModelError(f"the adapter in {folder} lacks tensors: {one_line(missing[0])[:200]}", "Restore it.")
    own = (folder / "config.json").is_file()  # adapters from elsewhere have none
    trained_on = locate.read_config(folder).get(BASE_KEY) if own else None
    if trained_on and trained_on != base_revision:
        warnings.warn(
            f"the adapter in {folder} was trained on another state of its base ({trained_on}) than is there now "
            f"({base_revision})",
            stacklevel=2,
        )
    return adapter


def merge(adapter: Any) -> Any:
    """The plain model with the adapter added to its weights (Hu et al. 2022, section 4.1); all of it can be trained."""
    model = adapter.merge_and_unload()
    model.requires_grad_(True)
    return model


def _is_linear(module: Any) -> bool:
    return type(module).__name__ in ("Linear", "Conv1D")


def _peft() -> Any:
    try:
        with model_files.building(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import peft
    except ImportError as error:
        raise OptionError(f"LoRA needs peft: {one_line(str(error))}", 'pip install "aigc-text[lora]"') from None
    return peft
