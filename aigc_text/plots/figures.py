"""Empty figures, and pictures that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from aigc_text.utils import atomic


def blank(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Any:
    """An empty figure, sizes in inches. It is made without pyplot, whose state and backend are the caller's."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def save(figure: Any, picture: Path) -> None:
    """Writes a picture of the kind that its name ends with, whole or not at all."""
    with atomic.whole(picture) as temporary:
        # Tight: a legend below axes of fixed proportions may reach out of the figure.
        figure.savefig(temporary, format=picture.suffix[1:].lower(), dpi=120, bbox_inches="tight")
