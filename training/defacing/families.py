"""The families of simulated tools by name, and the function that applies one to a head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from training.defacing import altering, cuts
from training.defacing.fills import AS_FOUND, FillShares, fill
from training.defacing.scene import Change, Scene

REMOVED: Mapping[str, Callable[[Scene, np.random.Generator], NDArray[np.bool_]]] = MappingProxyType(
    {
        "pydeface": cuts.pydeface,
        "quickshear": cuts.quickshear,
        "mri_deface": cuts.mri_deface,
        "shell": cuts.shell,
        "fsl_deface": cuts.fsl_deface,
        "box": cuts.box,
        "oblique": cuts.oblique,
        "eyes": cuts.eyes,
    }
)
ALTERED = ("blur", "reface", "average face")
NEED_DONORS = ("reface", "average face")
FAMILIES = (*REMOVED, *ALTERED)


def deface(
    scene: Scene,
    family: str,
    rng: np.random.Generator,
    *,
    donors: Sequence[Scene] = (),
    fills: FillShares = AS_FOUND,
) -> Change:
    """Apply one family to a head.

    Parameters
    ----------
    family
        One of ``FAMILIES``.
    donors
        Heads whose faces are inserted: ``reface`` needs one, ``average face`` uses the mean of all.
    fills
        Frequencies of the values that are written where tissue is removed.

    Raises
    ------
    ValueError
        The family needs a donor and there is none.
    """
    untouched = np.zeros(scene.body.shape, bool)
    if family == "blur":
        voxels, altered, body = altering.blur(scene, rng)
        return Change(voxels, untouched, altered, body, family)
    if family in NEED_DONORS:
        if not donors:
            message = f"{family} needs a donor"
            raise ValueError(message)
        if family == "reface":
            voxels, altered, body = altering.reface(scene, rng, donors[0])
        else:
            voxels, altered, body = altering.average_face(scene, rng, donors)
        return Change(voxels, untouched, altered, body, family)
    voxels, removed = fill(scene, REMOVED[family](scene, rng), rng, fills)
    return Change(voxels, removed, untouched, scene.body & ~removed, family)
