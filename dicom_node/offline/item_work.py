"""The unit of work of an offline run: read one series or NIfTI file, segment its volumes, write their folders.

A run in this process and a run on a cluster both consist of it (docs/decisions/0160).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from dicom_node.offline.item_results import ItemResult, VolumeDone, no_result
from dicom_node.offline.items import Item
from dicom_node.offline.output import OutputFolder
from dicom_node.offline.written_at import newest_date
from dicom_node.processing import process_volume, volume_name
from inference.segment import Models
from inference.series.volume import SourceVolume

OFFLINE_GENERATION = 1  # a run sees a series once; instances that arrive later need another run

OnStage = Callable[[str, str], None]  # told the name of a volume and its stage


@dataclass(frozen=True, slots=True, eq=False)
class PreparedItem:
    """An item whose digest is known, and that is either finished earlier or read."""

    input_sha256: str
    finished: tuple[dict[str, Any], ...]
    volumes: tuple[SourceVolume, ...]
    reading_s: float


@dataclass(frozen=True, slots=True, eq=False)
class ItemWork:
    """What all items of a run share. Results that exist are kept unless ``overwrite``."""

    models: Models
    output: OutputFolder
    pipeline_digest: str
    overwrite: bool

    def prepare(self, item: Item) -> PreparedItem:
        """Read an item, unless an earlier run finished it."""
        started = perf_counter()
        input_sha256 = item.digest()
        finished = () if self.overwrite else self.output.finished_reports(item, input_sha256, self.pipeline_digest)
        volumes = () if finished else item.read()
        return PreparedItem(input_sha256, finished, volumes, perf_counter() - started)

    def finish(self, item: Item, prepared: PreparedItem, on_stage: OnStage) -> Iterator[ItemResult]:
        """Segment and write the volumes of an item; yield each result as soon as it is known."""
        for report in prepared.finished:
            yield VolumeDone(report, is_new=False)
        for source in prepared.volumes:
            name = volume_name(item.name, source.stack_number)
            try:
                report = self._write(item, source, name, prepared, on_stage)
            except Exception as error:  # noqa: BLE001 - the one place where a volume's failure is recorded
                yield no_result(name, error)
            else:
                yield VolumeDone(report, is_new=True)

    def _write(
        self, item: Item, source: SourceVolume, name: str, prepared: PreparedItem, on_stage: OnStage
    ) -> dict[str, Any]:
        volume = process_volume(
            source,
            self.models,
            name=name,
            n_stacks=len(prepared.volumes),
            generation=OFFLINE_GENERATION,
            pipeline_digest=self.pipeline_digest,
            written_at=newest_date(source.headers) if source.headers else None,
            reading_s=prepared.reading_s / len(prepared.volumes),
            on_stage=lambda stage: on_stage(name, stage),
        )
        report = {**volume.report.as_json(), "input_sha256": prepared.input_sha256}
        self.output.write_volume(volume, report, template=item.nifti)
        return report
