"""A backend's model and tokenizer into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aigc_text.errors import BackendError, ModelError
from aigc_text.hub import loading, locate, lora, model_files
from aigc_text.utils import sealed_dir

if TYPE_CHECKING:
    from .backend import TransformersBackend


def save(backend: TransformersBackend, path: Path, merge: bool) -> None:
    """Saves a model; see `TransformersBackend.save_pretrained`."""
    if backend.converted is not None:
        raise BackendError("the engine ctranslate2 does not save models", "Load the model with engine='torch'.")
    if path.exists():
        raise ModelError(f"{path} exists already", "Choose a new folder, or remove this one.")
    if merge:
        backend.merge_adapter()
    sealed_dir.save(path, backend.write)


def write(backend: TransformersBackend, folder: Path) -> None:
    """Writes weights (or the adapter alone), configuration and tokenizer into a folder."""
    if backend.name:  # else it was made without the registry, and may be loaded by whichever backend takes it
        setattr(backend.model.config, locate.BACKEND_KEY, backend.name)
    with model_files.building(), loading.quiet():
        if backend.adapter is not None:
            lora.save(backend.model, backend.adapter, folder, backend.base_revision)
        else:
            backend.model.save_pretrained(folder)
    backend.tokenizer.save_pretrained(folder)
