"""What a user must know about a dataset as a whole before training on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_node.datasets.layouts import Entry, Layout, MaskMode

MIN_NNSSL_SUBJECTS: Final = 6


def notes_on(entries: Sequence[Entry], layouts: Sequence[Layout], mode: MaskMode) -> list[str]:
    """Return one sentence for each thing to know."""
    notes = []
    if Layout.NNSSL in layouts:
        notes += _nnssl_notes(entries, mode)
    if Layout.NNUNET in layouts and len(modalities := {str(entry.record["modality"]) for entry in entries}) > 1:
        notes.append(
            f"nnunet: holds {', '.join(sorted(modalities))}; nnU-Net will normalise each volume by its own mean, "
            "CT too. Make one dataset per modality if Hounsfield units matter."
        )
    return notes


def _nnssl_notes(entries: Sequence[Entry], mode: MaskMode) -> list[str]:
    notes = [
        {
            MaskMode.DOCUMENTED: "nnssl: masks under their documented keys. Preprocessing of nnssl up to July 2026 "
            "swaps them if it gets both: trainers that read both would then learn from altered voxels. "
            "Use --masks compat or anon-only until yours is repaired.",
            MaskMode.COMPAT: "nnssl: the paths of the two masks are swapped on purpose, which undoes the swap of its "
            "preprocessing up to July 2026. Do not use this file with a repaired nnssl.",
            MaskMode.ANON_ONLY: "nnssl: only the anonymization mask is named; trainers with ANAT in their name cannot "
            "use this dataset.",
        }[mode]
    ]
    n_subjects = len({entry.place.subject for entry in entries})
    if n_subjects < MIN_NNSSL_SUBJECTS:
        notes.append(f"nnssl: {n_subjects} subjects; its trainers need at least {MIN_NNSSL_SUBJECTS}.")
    n_zero = sum(entry.record["exact_zero_air"] > 0 for entry in entries)
    if n_zero:
        notes.append(
            f"nnssl: {n_zero} of {len(entries)} volumes have air that is exactly zero. There its preprocessing writes "
            "-1 into the anonymization mask, which its masked trainers do not expect."
        )
    return notes
