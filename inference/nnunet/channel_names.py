"""Names of the input channels, for those who read a model's description and compute nothing."""

from __future__ import annotations

from typing import Final

CHANNEL_NAMES: Final = ("image", "field_of_view", "constancy", "roughness")
"""Keys of `inference.nnunet.channels.CHANNELS`, where each is described."""
