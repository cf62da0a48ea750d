"""`python -m aigc_text`, and so `accelerate launch -m aigc_text train …`."""

from .cli import script

script()
