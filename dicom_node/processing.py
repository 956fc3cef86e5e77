"""Process a series from files to results: volumes, masks, verdict, verified objects, report and overlay.

Worker and offline command share this function. It uses neither store nor network; its arguments alone decide
its results, byte for byte, apart from ``timings_s`` in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter

from dicom_node.overlay import draw_overlay
from dicom_node.report import FoundSegment, Report, build_report, caption, found_segments, remarks_on
from inference.models import ModelIdentity
from inference.segment import Models, Segmentation, segment
from inference.series.assemble import assemble_volumes
from inference.series.files import InstanceSource
from inference.series.remarks import Remark
from inference.series.stack_choice import DEFAULT_POLICY, StackPolicy
from inference.series.volume import SourceVolume
from inference.verdict.calibration import verdict_parameters
from inference.verdict.verdict import SeriesVerdict
from sr_writer.frame_grid import FrameGrid
from sr_writer.objects import AlgorithmIdentity, Lineage, Predecessor, Role, WrittenObject
from sr_writer.report import Findings, write_report
from sr_writer.segmentation import write_segmentation

OnStage = Callable[[str], None]
OnShare = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class ProcessedVolume:
    """All results of one volume; ``name`` is its folder in an offline run."""

    name: str
    source: SourceVolume
    segmentation: Segmentation
    objects: tuple[WrittenObject, ...]
    report: Report
    overlay_png: bytes


def process_series(
    sources: Sequence[InstanceSource],
    models: Models,
    *,
    generation: int,
    pipeline_digest: str,
    written_at: datetime,
    on_stage: OnStage | None = None,
    on_share: OnShare | None = None,
    predecessors: Sequence[Predecessor] = (),
    remarks: Sequence[Remark] = (),
    stacks: StackPolicy = DEFAULT_POLICY,
) -> tuple[ProcessedVolume, ...]:
    """Process every volume of a series.

    Parameters
    ----------
    sources
        All instances of the generation.
    written_at
        Date and time in the objects: those of the job, so that a repeated job writes the same bytes.
    on_stage
        Called with the name of each step.
    on_share
        Called with the share of the present step that is done, in steps that take long.
    predecessors
        Results of earlier generations, named in each object of the same kind as replaced by it.
    remarks
        What the caller has noticed on the series; report and SR say it.
    stacks
        Which stacks to process if the series has several.

    Raises
    ------
    inference.errors.InferenceError
        The series is not a volume, or a model cannot be run on it.
    sr_writer.errors.WriterError
        The result cannot be written, or the written bytes differ from what was intended.
    """
    started = perf_counter()
    _tell(on_stage, "reading")
    volumes = assemble_volumes(sources, stacks=stacks)
    reading_s = (perf_counter() - started) / len(volumes)
    return tuple(
        process_volume(
            volume,
            models,
            name=volume_name(str(volume.series_instance_uid), volume.stack_number),
            n_stacks=len(volumes),
            generation=generation,
            pipeline_digest=pipeline_digest,
            written_at=written_at,
            reading_s=reading_s,
            on_stage=on_stage,
            on_share=on_share,
            predecessors=predecessors,
            remarks=remarks,
        )
        for volume in volumes
    )


def process_volume(
    source: SourceVolume,
    models: Models,
    *,
    name: str,
    n_stacks: int,
    generation: int,
    pipeline_digest: str,
    written_at: datetime | None,
    reading_s: float,
    on_stage: OnStage | None = None,
    on_share: OnShare | None = None,
    predecessors: Sequence[Predecessor] = (),
    remarks: Sequence[Remark] = (),
) -> ProcessedVolume:
    """Segment one volume that was read already, and encode its results.

    For a volume without source headers (NIfTI), no objects are written; only for it ``written_at`` may be ``None``.
    """
    segmentation = segment(source, models, on_stage=on_stage, on_share=on_share)
    started = perf_counter()
    segments = found_segments(source, segmentation)
    all_remarks = tuple(dict.fromkeys((*remarks_on(source, segmentation), *remarks)))
    objects: tuple[WrittenObject, ...] = ()
    if source.headers and written_at is not None:
        _tell(on_stage, "writing")
        lineage = Lineage(str(source.series_instance_uid), generation, source.stack_number, pipeline_digest)
        objects = _write_objects(source, segmentation, segments, all_remarks, lineage, written_at, predecessors)
    writing_s = perf_counter() - started
    report = build_report(
        source,
        segmentation,
        segments,
        all_remarks,
        objects,
        name=name,
        generation=generation,
        n_stacks=n_stacks,
        pipeline_digest=pipeline_digest,
        timings_s={"reading": reading_s, **segmentation.timings_s, "writing": writing_s},
    )
    overlay_png = draw_overlay(
        source.volume,
        segmentation.foreground,
        segmentation.anonymized,
        modality=source.modality,
        caption=caption(report.as_json()),
    )
    return ProcessedVolume(name, source, segmentation, objects, report, overlay_png)


def volume_name(base: str, stack_number: int) -> str:
    """Return the name of a volume's folder: the series', with ``-stack2`` and so on from the second stack."""
    return base if stack_number == 1 else f"{base}-stack{stack_number}"


def frames_of(source: SourceVolume) -> FrameGrid:
    """Return the frames of the results: the source's own if the volume was resampled from tilted or uneven ones."""
    geometry = source.volume.get_geometry()
    if source.frames is None:
        return FrameGrid.from_geometry(geometry)
    return FrameGrid.at_positions(source.frames.positions_mm, geometry, source.frames.rows, source.frames.columns)


def _write_objects(
    source: SourceVolume,
    segmentation: Segmentation,
    segments: tuple[FoundSegment, ...],
    remarks: tuple[Remark, ...],
    lineage: Lineage,
    written_at: datetime,
    predecessors: Sequence[Predecessor],
) -> tuple[WrittenObject, ...]:
    """Return the SEG, unless both masks are empty, and the SR."""
    algorithms = _algorithms(segmentation.models)
    foreground, anonymized = (
        mask if source.frames is None else source.frames.on_frames(mask)
        for mask in (segmentation.foreground, segmentation.anonymized)
    )
    written = write_segmentation(
        source.headers,
        frames_of(source),
        foreground,
        anonymized,
        algorithms=algorithms,
        lineage=lineage,
        written_at=written_at,
        plane_sources=source.plane_sources,
        stack_name=source.stack_name,
        is_face_anonymized=segmentation.verdict.verdict is SeriesVerdict.DEFACED,
        predecessors=predecessors,
    )
    report = write_report(
        source.headers,
        written,
        _findings(source, segmentation, segments, remarks),
        segment_numbers={one.role: one.segment_number for one in segments if one.segment_number is not None},
        algorithms=algorithms,
        lineage=lineage,
        written_at=written_at,
        plane_sources=source.plane_sources,
        predecessors=predecessors,
    )
    return (report,) if written is None else (written, report)


def _findings(
    source: SourceVolume, segmentation: Segmentation, segments: Iterable[FoundSegment], remarks: Iterable[Remark]
) -> Findings:
    verdict = segmentation.verdict
    stack = (f"stack {source.stack_number} of the series: {source.stack_name}",) if source.stack_name else ()
    return Findings(
        volumes_ml={one.role: one.volume_ml for one in segments},
        verdict=verdict.verdict.value,
        probability=float(verdict.probability),
        verdict_parameters=verdict_parameters(),
        comments=(*stack, *verdict.reasons, *(remark.text for remark in remarks)),
    )


def _algorithms(models: Iterable[ModelIdentity]) -> dict[Role, AlgorithmIdentity]:
    by_role = {model.role: AlgorithmIdentity(model.name, model.version, model.sha256) for model in models}
    return {"foreground": by_role["foreground"], "anonymized": by_role["anonymized"]}


def _tell(on_stage: OnStage | None, stage: str) -> None:
    if on_stage is not None:
        on_stage(stage)
