"""`python -m aigc_text`, and so `accelerate launch -m aigc_text train …`."""

from aigc_text.cli import script

script()
