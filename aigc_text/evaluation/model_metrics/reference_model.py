"""The model that texts are measured with: a backend, or what `load` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aigc_text.backends.base import Backend


REFERENCE_MODEL = "bundled:gpt2-tales"  # whose likelihood and features judge texts where nobody names another


def loaded(model: Backend | str) -> Backend:
    """A backend as it is; a backend's name, a hub id or a folder through `api.load`.

    Raises:
        UserError: see `api.load`.
    """
    from aigc_text.api import list_backends, load

    if not isinstance(model, str):
        return model
    return load(model) if model in list_backends() or ".py:" in model else load(model=model)
