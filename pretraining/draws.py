"""Draw patches that show the body: at random, but the first of a few places that is mostly unaltered body.

Centring a patch on a voxel of the body is not enough: voxels at the body's border then draw patches of the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pretraining.dataset import PreparedVolume, Shape

WANTED_SHARE: Final = 0.7  # of the patch is unaltered body
N_TRIES: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A box of a volume.

    Attributes
    ----------
    image
        Normalised values, of ``size``.
    body, altered
        Of the same size.
    """

    image: NDArray[np.float32]
    body: NDArray[np.bool_]
    altered: NDArray[np.bool_]


def draw_patch(
    volume: PreparedVolume,
    size: Shape,
    rng: np.random.Generator,
    *,
    use_masks: bool = True,
    wanted_share: float = WANTED_SHARE,
    n_tries: int = N_TRIES,
) -> Patch:
    """Return the first patch of some random ones that has enough unaltered body, else the one that has most.

    A volume that is smaller than the patch lies anywhere in it, and air is around it.

    Parameters
    ----------
    use_masks
        If not, the first patch is returned, with everything in it body and nothing altered. The same random numbers
        are used up.
    """
    start = draw_start(volume, size, rng, use_masks=use_masks, wanted_share=wanted_share, n_tries=n_tries)
    image, body, altered = volume.read(start, size)
    if not use_masks:
        body, altered = np.ones_like(body), np.zeros_like(altered)
    return Patch(image, body, altered)


def draw_start(
    volume: PreparedVolume,
    size: Shape,
    rng: np.random.Generator,
    *,
    use_masks: bool = True,
    wanted_share: float = WANTED_SHARE,
    n_tries: int = N_TRIES,
) -> Shape:
    """Return where such a patch begins; negative where the volume is smaller than the patch."""
    spare = np.asarray(volume.shape) - np.asarray(size)
    starts = rng.integers(np.minimum(spare, 0), np.maximum(spare, 0), size=(n_tries, 3), endpoint=True)
    chosen = 0
    if use_masks:
        shares = volume.body_share(starts, size)
        enough = np.flatnonzero(shares >= wanted_share)
        chosen = int(enough[0]) if enough.size else int(np.argmax(shares))
    first, second, third = (int(place) for place in starts[chosen])
    return first, second, third
