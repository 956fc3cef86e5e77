"""Volume Fusion: blend two crops block by block, and let a segmentation network tell by how much.

G. Wang et al., MIS-FM, arXiv 2306.16925 (2023) and 10.1109/TIP.2025.3610249 (2025). The version released with the
journal paper is the default (``grid``); the preprint's is ``boxes``. ``docs/pretraining.md`` says how they differ.
"""

from pretraining.volume_fusion.method import Options, Variant, VolumeFusion, build

__all__ = ["Options", "Variant", "VolumeFusion", "build"]
