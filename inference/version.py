"""Version of the segmentation, in a module without imports for processes that load no model."""

from typing import Final

# Raise it whenever the same volume and models lead to other masks or another verdict; part of the pipeline digest.
SEGMENTATION_VERSION: Final = "13"
