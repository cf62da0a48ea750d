"""The contract that every backend keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_text.utils.lazy import exports

if TYPE_CHECKING:
    from .contract import ContractError, check_backend

__all__ = ["ContractError", "check_backend"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "contract": ("ContractError", "check_backend"),
    },
)
