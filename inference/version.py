"""Version of the segmentation, without imports: a process that loads no model needs it for the pipeline digest."""

from typing import Final

# Raised whenever the same volume and models would give other masks or another verdict; part of the pipeline digest.
SEGMENTATION_VERSION: Final = "9"
