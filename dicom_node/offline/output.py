"""The output folder of an offline run: each finished volume appears in it completely or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from dicom_node.offline.errors import OutputTakenError
from dicom_node.offline.items import Item
from dicom_node.offline.names import PAGE, REPORT, SUMMARY, mask_file
from dicom_node.offline.replacing import PARTIAL_PREFIX, replacing, sync
from dicom_node.processing import ProcessedVolume, volume_name
from dicom_node.report import encode_report
from inference.series.nifti_masks import write_nifti_mask

_OBJECT_FILES: Mapping[str, str] = {SegmentationStorage: "seg.dcm", ComprehensiveSRStorage: "sr.dcm"}


class OutputFolder:
    """``OUT/<name>/`` for every volume, ``OUT/summary.json`` and ``OUT/index.html``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def finished_reports(self, item: Item, input_sha256: str, pipeline_digest: str) -> tuple[dict[str, Any], ...]:
        """Return the reports of the item's volumes if an earlier run finished all of them, else an empty tuple.

        Raises
        ------
        OutputTakenError
            The folder holds the results of another NIfTI file of the same name. A series is identified by its
            UID, so other contents under its name are a newer version of it.
        """
        first = self._read_report(item.name)
        if first is None:
            return ()
        if item.nifti is not None and first.get("input_sha256") != input_sha256:
            raise OutputTakenError(item.name)
        n_stacks = first.get("n_stacks")
        if not isinstance(n_stacks, int):
            return ()
        others = [self._read_report(volume_name(item.name, number)) for number in range(2, n_stacks + 1)]
        reports = [report for report in (first, *others) if report is not None]
        wanted = {"input_sha256": input_sha256, "pipeline_digest": pipeline_digest}
        is_finished = len(reports) == n_stacks and all(
            report.get(key) == value for report in reports for key, value in wanted.items()
        )
        return tuple(reports) if is_finished else ()

    def write_volume(self, volume: ProcessedVolume, report: Mapping[str, Any], *, template: Path | None) -> Path:
        """Write a volume's files and replace whatever exists under its name.

        Parameters
        ----------
        report
            Report of the volume, with the fields that the run adds.
        template
            The NIfTI file that the volume was read from; its masks keep the header's geometry.
        """
        folder = self.root / volume.name
        with replacing(folder) as partial:
            for role, mask in (
                ("foreground", volume.segmentation.foreground),
                ("anonymized", volume.segmentation.anonymized),
            ):
                write_nifti_mask(partial / mask_file(role), mask, volume.source.volume.get_geometry(), template)
            for written in volume.objects:
                (partial / _OBJECT_FILES[written.sop_class_uid]).write_bytes(written.part10())
            (partial / "overlay.png").write_bytes(volume.overlay_png)
            (partial / REPORT).write_bytes(encode_report(report))
        return folder

    def write_summary(self, summary: Mapping[str, Any]) -> Path:
        """Write ``summary.json``, completely or not at all."""
        return self._write_file(SUMMARY, [encode_report(summary)])

    def write_page(self, pieces: Iterable[str]) -> Path:
        """Write ``index.html``, completely or not at all."""
        return self._write_file(PAGE, (piece.encode() for piece in pieces))

    def _write_file(self, name: str, pieces: Iterable[bytes]) -> Path:
        path = self.root / name
        partial = self.root / f"{PARTIAL_PREFIX}{name}"
        with partial.open("wb") as file:
            file.writelines(pieces)
        sync(partial)
        partial.replace(path)
        return path

    def _read_report(self, name: str) -> dict[str, Any] | None:
        try:
            report = json.loads((self.root / name / REPORT).read_bytes())
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) else None
