"""Refine both masks together, because voxels written by a tool are neither body nor air at the body's surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.refine.anonymized import RefinedArea, refine_anonymized
from inference.refine.blurred import refine_blurred
from inference.refine.foreground import refine_foreground
from inference.refine.grids import DecidedBy, Mask, Spacing
from inference.refine.judged import JudgedArea, join_with_equal_values

__all__ = ["DecidedBy", "RefinedMasks", "refine_masks"]


@dataclass(frozen=True, slots=True, eq=False)
class RefinedMasks:
    """Masks on the source grid, (slice, row, column), and for each role what determined the contour.

    Attributes
    ----------
    unconfirmed
        The part of ``anonymized`` that only the judge found; None if it was not asked for alterations, or found none.
    """

    foreground: Mask
    anonymized: Mask
    decided_by: Mapping[str, DecidedBy]
    fill_value: float | None = None
    unconfirmed: Mask | None = None


def refine_masks(
    voxels: NDArray[np.float32],
    body: Mask,
    area: Mask,
    spacing_mm: Spacing,
    *,
    foreground: bool,
    anonymized: bool,
    is_ct: bool,
    altered: Mask | None = None,
    smoothed: Mask | None = None,
    judged: JudgedArea | None = None,
    judged_altered: Mask | None = None,
) -> RefinedMasks:
    """Refine one or both masks of the networks.

    Parameters
    ----------
    voxels, body, area
        (slice, row, column) with axes towards head, posterior and left; ``body`` and ``area`` are the body and the
        anonymised area of the networks.
    spacing_mm
        Along the same axes.
    foreground, anonymized
        Whether to refine that mask; otherwise it is returned unchanged.
    is_ct
        Whether this is a CT; whether its values are Hounsfield units is decided from the air.
    altered
        The part of ``area`` that was blurred or replaced and is therefore body too.
    smoothed
        The part of ``altered`` that is kept only where it is smoother than other tissue.
    judged
        What the judge found; it then takes the place of ``area``, ``altered`` and ``smoothed``.
    judged_altered
        A smoothed or replaced face that the judge found, which is added to the area.
    """
    found = RefinedArea(area, np.zeros(area.shape, bool), DecidedBy.NETWORK)
    if anonymized and judged is not None:
        found = join_with_equal_values(voxels, judged, body, spacing_mm, is_ct=is_ct)
        altered = smoothed = None
    elif anonymized:
        removed = area if altered is None else area & ~altered
        found = refine_anonymized(voxels, removed, body, spacing_mm, is_ct=is_ct)
    decided = {"foreground": DecidedBy.NETWORK, "anonymized": found.decided_by}
    contour = body
    if foreground:
        surface = refine_foreground(
            voxels,
            body,
            found.shown,
            spacing_mm,
            anonymized=found.mask if judged is None else found.shown,
            fill_value=found.fill_value,
            is_ct=is_ct,
        )
        body, decided["foreground"] = surface.mask, surface.decided_by
    whole = found.mask
    if altered is not None and anonymized:
        if smoothed is not None:
            shown = refine_blurred(voxels, smoothed, contour, spacing_mm)
            altered = altered & ~smoothed | shown
            if shown.any() and found.decided_by is DecidedBy.NETWORK:
                decided["anonymized"] = DecidedBy.VALUE_STATISTICS
        whole = whole | altered
    unconfirmed = None
    if judged_altered is not None and anonymized:
        added = judged_altered & ~whole
        if added.any():
            if not whole.any():
                decided["anonymized"] = DecidedBy.JUDGE
            unconfirmed, whole = added, whole | added
    return RefinedMasks(body, whole, decided, found.fill_value, unconfirmed)
