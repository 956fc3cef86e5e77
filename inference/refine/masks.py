"""Refine both masks together, because voxels written by a tool are neither body nor air at the body's surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.refine.anonymized import RefinedArea, refine_anonymized
from inference.refine.foreground import refine_foreground
from inference.refine.grids import DecidedBy, Mask, Spacing
from inference.refine.judged import DrawnArea, JudgedArea, draw_with_judge

__all__ = ["DecidedBy", "RefinedMasks", "refine_masks"]


@dataclass(frozen=True, slots=True, eq=False)
class RefinedMasks:
    """Masks on the source grid, (slice, row, column), and for each role what determined the contour.

    Attributes
    ----------
    unconfirmed
        The part of ``anonymized`` that only the judge found, on which no verdict may rest; None if there is none.
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
    judged: JudgedArea | None = None,
    judged_altered: Mask | None = None,
    altered_is_sure: bool = False,
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
        The part of ``area`` that was blurred or replaced and is therefore body too; it stays as the network drew it.
    judged
        What the judge found, if it draws the edge of what stored values confirm.
    judged_altered
        A smoothed or replaced face that the judge found, which is added to the area.
    altered_is_sure
        Whether the judge is so sure of ``judged_altered`` that a verdict may rest on it.
    """
    found = DrawnArea(RefinedArea(area, np.zeros(area.shape, bool), DecidedBy.NETWORK), area)
    by_rules = area
    if anonymized:
        believed = None if judged is None else judged.believed
        found = _area_by_rules(voxels, body, area, spacing_mm, is_ct=is_ct, altered=altered, believed=believed)
        by_rules = found.whole
        if judged is not None:
            found = draw_with_judge(found, judged, body, spacing_mm)
    filled, whole = found.filled, found.whole
    decided = {"foreground": DecidedBy.NETWORK, "anonymized": filled.decided_by}
    if foreground:
        surface = refine_foreground(
            voxels,
            body,
            filled.shown,
            spacing_mm,
            anonymized=filled.mask,
            fill_value=filled.fill_value,
            is_ct=is_ct,
        )
        body, decided["foreground"] = surface.mask, surface.decided_by
    if judged_altered is not None and anonymized:
        if judged_altered.any() and not whole.any():
            decided["anonymized"] = DecidedBy.JUDGE
        whole = whole | judged_altered
        if altered_is_sure:
            by_rules = by_rules | judged_altered
    unconfirmed = whole & ~by_rules
    return RefinedMasks(body, whole, decided, filled.fill_value, unconfirmed if unconfirmed.any() else None)


def _area_by_rules(
    voxels: NDArray[np.float32],
    body: Mask,
    area: Mask,
    spacing_mm: Spacing,
    *,
    is_ct: bool,
    altered: Mask | None,
    believed: Mask | None,
) -> DrawnArea:
    """Return what stored values confirm of the network's area, and of what the judge believes to be removed.

    The other parameters are those of ``refine_masks``.
    """
    removed = area if altered is None else area & ~altered
    if believed is not None:
        removed = removed | believed
    found = refine_anonymized(voxels, removed, body, spacing_mm, is_ct=is_ct)
    return DrawnArea(found, found.mask if altered is None else found.mask | altered)
