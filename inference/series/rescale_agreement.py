"""Check whether planes of one stack with different rescale are consistent, plane by plane.

Different slopes are legal (as in PET, and in some MR): rescaled values are then continuous from plane to plane. If some
planes lost their rescale or have a wrong one, stored values are continuous and rescaled ones jump.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inference.series.errors import RescaleDiffersError
from inference.series.missing import LARGEST_VALUE
from inference.series.planes import Plane
from inference.series.remarks import Remark, RemarkCode

SAMPLES_PER_AXIS = 64  # of a plane
# Mean step between two planes, as a share of the stack's spread. Neighbours in a head differ by 0.05 to 0.3, water for
# air by more than 1.
CLEARLY, SLACK = 2.0, 0.05
FAR_CLEARLY, FAR_SLACK = 4.0, 0.1  # where both planes say their rescale: only what cannot be meant
OWN_SHARE = 0.5  # more rescales than this share of the planes are a scanner's own scaling of each plane

Steps = NDArray[np.float64]


def agree_on_rescale(parts: Sequence[NDArray[np.float32]], planes: Sequence[Plane], uid: str) -> tuple[Remark, ...]:
    """Check neighbours of different rescale; complete, in place, planes without one where their neighbours prove it.

    Parameters
    ----------
    parts
        (row, column) rescaled values of each plane, in the order of ``planes``; what is no measurement is NaN.

    Raises
    ------
    RescaleDiffersError
        The values jump between two planes, and nothing shows how they go on.
    """
    rescales = [(plane.rescale_slope, plane.rescale_intercept) for plane in planes]
    if len(set(rescales)) == 1:
        return ()
    as_said, as_stored = _steps(parts, rescales)
    differing = np.array([one != other for one, other in pairwise(rescales)])
    is_given = np.array([plane.is_rescale_given for plane in planes])
    if not is_given.any():  # each has one of the two
        is_given[:] = True
    at_missing = differing & ~(is_given[1:] & is_given[:-1])
    at_given = differing & ~at_missing
    if len(set(rescales)) <= OWN_SHARE * len(planes):
        _refuse_jumps(at_given & (as_said > FAR_CLEARLY * as_stored + FAR_SLACK), rescales, uid)
    if not at_missing.any():
        return (
            Remark(
                RemarkCode.RESCALE_CHANGES, f"the slices have {len(set(rescales))} different rescales, each its own"
            ),
        )
    n_missing = len(planes) - int(np.count_nonzero(is_given))
    jumps = at_missing & (as_said > CLEARLY * as_stored + SLACK)
    if not jumps.any():
        text = f"{n_missing} of {len(planes)} slices have no rescale; their stored values go on from slice to slice"
        return (Remark(RemarkCode.RESCALE_INCOMPLETE, text),)
    given = Counter(rescale for rescale, is_one in zip(rescales, is_given, strict=True) if is_one)
    if len(given) != 1 or (at_missing & (as_stored > CLEARLY * as_said + SLACK)).any():
        _refuse_jumps(jumps, rescales, uid)
    ((slope, intercept),) = given
    for part, (own_slope, own_intercept), is_one in zip(parts, rescales, is_given, strict=True):
        if not is_one:
            part[...] = (part.astype(np.float64) - own_intercept) / own_slope * slope + intercept
    text = (
        f"{n_missing} of {len(planes)} slices have no rescale; that of the others ({slope:g}, {intercept:g}) is used, "
        "with which alone their values go on from slice to slice"
    )
    return (Remark(RemarkCode.RESCALE_COMPLETED, text),)


def _refuse_jumps(jumps: NDArray[np.bool_], rescales: Sequence[tuple[float, float]], uid: str) -> None:
    if jumps.any():
        first = int(np.argmax(jumps))
        one, other = (f"{slope:g} and {intercept:g}" for slope, intercept in rescales[first : first + 2])
        raise RescaleDiffersError(uid, first + 1, one, other)


def _steps(parts: Sequence[NDArray[np.float32]], rescales: Sequence[tuple[float, float]]) -> tuple[Steps, Steps]:
    """Mean step from each plane to the next, rescaled and as stored, each as a share of its spread."""
    rows, columns = (max(1, size // SAMPLES_PER_AXIS) for size in parts[0].shape)
    said = np.stack([part[::rows, ::columns] for part in parts]).astype(np.float64)
    said[~(np.abs(said) <= LARGEST_VALUE)] = np.nan
    slopes, intercepts = (np.array(values)[:, None, None] for values in zip(*rescales, strict=True))
    return _relative_steps(said), _relative_steps((said - intercepts) / slopes)


def _relative_steps(sample: NDArray[np.float64]) -> Steps:
    known = np.isfinite(sample)
    spread = float(np.std(sample[known])) if known.any() else 0.0
    steps, both = np.abs(np.diff(sample, axis=0)), known[1:] & known[:-1]
    n_both = np.count_nonzero(both, axis=(1, 2))
    sums = np.sum(steps, axis=(1, 2), where=both)
    return np.asarray(np.divide(sums, n_both * spread, out=np.zeros(len(sums)), where=(n_both > 0) & (spread > 0)))
