"""The public entry point: segment a volume with two loaded models into masks on the source grid and a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inference.ct_padding import without_ct_padding
from inference.input_checks import (
    are_surroundings_missing,
    check_field_of_view,
    check_model_grid,
    has_signal,
    with_numbers,
)
from inference.judge_stage import Judged, ask_judge, doubted_if_unconfirmed
from inference.load_model import load_judge_of, load_model
from inference.models import ModelIdentity, ModelSpec
from inference.nnunet.errors import ModelKeyError
from inference.nnunet.orientation import CANONICAL, RAS, Reorientation, reorientation_of
from inference.nnunet.preprocessing import Preprocessing
from inference.nnunet.trained_model import TrainedModel, choose_device
from inference.refine.grids import Spacing
from inference.refine.masks import DecidedBy, refine_masks
from inference.series.remarks import Remark, RemarkCode
from inference.series.volume import SourceVolume
from inference.verdict.verdict import (
    SegmentationFacts,
    SeriesVerdict,
    Verdict,
    decide_verdict,
    gather_facts,
    is_area_without_face,
)

Mask = NDArray[np.bool_]
OnStage = Callable[[str], None]
OnShare = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model in memory and its description."""

    spec: ModelSpec
    network: TrainedModel
    judge: nn.Module | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Both models, loaded on one device."""

    foreground: LoadedModel
    anonymized: LoadedModel
    device: torch.device

    @property
    def identities(self) -> tuple[ModelIdentity, ModelIdentity]:
        """How results identify the models that made them: foreground, anonymized."""
        return self.foreground.spec.identity, self.anonymized.spec.identity


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """Result for one volume.

    Attributes
    ----------
    foreground, anonymized
        (slice, row, column) masks on the grid of the source volume; ``source.frames`` maps them to the frames.
    decided_by
        For each role, what determined the final contour: ``network``, ``native-evidence``, ``judge`` or
        ``value-statistics``; ``no-signal`` if the volume is constant.
    timings_s
        Seconds per stage, in order.
    remarks
        Remarks about the source, and about voxels that were left out of a mask.
    """

    foreground: Mask
    anonymized: Mask
    verdict: Verdict
    decided_by: Mapping[str, str]
    models: tuple[ModelIdentity, ...]
    timings_s: Mapping[str, float]
    remarks: tuple[Remark, ...] = ()


def load_models(
    foreground: ModelSpec, anonymized: ModelSpec, *, device: str = "auto", use_mirroring: bool = False
) -> Models:
    """Load both models and check them against their checksums.

    Parameters
    ----------
    device
        ``auto`` (CUDA if available), ``cpu``, ``cuda`` or ``cuda:1``.
    use_mirroring
        Average the predictions over flips: slower and slightly more accurate.

    Raises
    ------
    ModelError
        A folder is incomplete, changed, unsafe or unsupported, or serves the other role.
    """
    chosen = choose_device(device)
    loaded = {}
    for role, spec in (("foreground", foreground), ("anonymized", anonymized)):
        if spec.identity.role != role:
            raise ModelKeyError(str(spec.folder / "model.yaml"), "role", spec.identity.role, role)
        network = load_model(spec, device=chosen, use_mirroring=use_mirroring)
        judge = load_judge_of(spec, network.plans, device=chosen) if spec.judge is not None else None
        loaded[role] = LoadedModel(spec, network, judge)
    return Models(loaded["foreground"], loaded["anonymized"], chosen)


def segment(
    source: SourceVolume, models: Models, *, on_stage: OnStage | None = None, on_share: OnShare | None = None
) -> Segmentation:
    """Find the body and the anonymised area in a volume.

    Parameters
    ----------
    on_stage
        Called with the name of each stage when it begins; the names are the keys of ``timings_s``.
    on_share
        Called within the stages of the networks with the share of the stage that is done, up to 1.

    Raises
    ------
    FieldOfViewError
        The size of the volume is impossible for a scan of a person.
    SeriesTooLargeError
        Resampled to a model's grid, the volume has too many voxels.
    ResourcesExhaustedError
        Memory ran out even with the smallest batch on the CPU.
    """
    clock = _StageClock(on_stage)
    doubts = check_field_of_view(source)
    source = with_numbers(source)
    remarks = (*source.remarks, *doubts)
    if not has_signal(source.volume.array):
        return _nothing_seen(source, models, remarks)
    inputs = _SharedInputs(source, models.device)
    masks: dict[str, Mask] = {}
    altered: Mask | None = None
    for role, model in (("foreground", models.foreground), ("anonymized", models.anonymized)):
        reorientation, preprocessing = inputs.for_model(model)
        check_model_grid(source, role, preprocessing.model_shape(model.network.plans))
        with clock.stage(f"prepare {role}"):
            prepared = preprocessing.prepare(model.network.plans, model.network.channels)
        with clock.stage(f"segment {role}"):
            outputs: list[torch.Tensor] | None = [] if model.judge is not None else None
            labels = reorientation.to_source(model.network.predict_labels(prepared, outputs, _on_tile(on_share)))
            masks[role] = _mask_of(labels, model.spec.mask_values)
            if model.spec.altered_values:
                altered = _mask_of(labels, model.spec.altered_values)
            del labels, prepared
    inputs.forget()
    judged, unconfirmed = Judged(), None
    judge, scope = models.anonymized.judge, models.anonymized.spec.judge
    if judge is not None and scope is not None and outputs:
        with clock.stage("judge"):
            judged = ask_judge(*_for_refinement(source, inputs.unpadded(), masks), outputs, judge, scope)
    decided_by = dict.fromkeys(masks, str(DecidedBy.NETWORK))
    if models.foreground.spec.refine or models.anonymized.spec.refine:
        with clock.stage("refine"):
            decided_by, unconfirmed = _refine(source, inputs.unpadded(), models, masks, altered, judged)
    if source.frames is not None:
        for mask in masks.values():
            source.frames.clear_outside_frames(mask)
    with clock.stage("verdict"):
        verdict, facts = _verdict_on(masks, source)
        if verdict.verdict is not SeriesVerdict.DEFACED and are_surroundings_missing(source, masks["foreground"]):
            remarks += _leave_out_missing_area(masks, source, unconfirmed)
            verdict, facts = _verdict_on(masks, source)
        if unconfirmed is not None:
            confirmed = {**masks, "anonymized": masks["anonymized"] & ~unconfirmed}
            unconfirmed_ml = np.count_nonzero(unconfirmed) * source.volume.voxel_volume / 1000.0
            verdict = doubted_if_unconfirmed(verdict, _verdict_on(confirmed, source)[0], unconfirmed_ml)
    if is_area_without_face(verdict, facts):
        remarks += _leave_out_area_without_face(masks, source)
    return Segmentation(
        foreground=masks["foreground"],
        anonymized=masks["anonymized"],
        verdict=_doubted(verdict, doubts),
        decided_by=decided_by,
        models=models.identities,
        timings_s=clock.timings_s,
        remarks=remarks,
    )


def _on_tile(on_share: OnShare | None) -> Callable[[int, int], None] | None:
    return None if on_share is None else lambda n_done, n_tiles: on_share(n_done / n_tiles)


def _nothing_seen(source: SourceVolume, models: Models, remarks: tuple[Remark, ...]) -> Segmentation:
    """Return the result for a constant volume: empty masks, and no face that could be recognised."""
    empty = np.zeros(source.volume.spatial_shape, bool)
    text = "no signal: every voxel holds the same value, but for a speck; no model was asked"
    return Segmentation(
        foreground=empty,
        anonymized=empty.copy(),
        verdict=Verdict(SeriesVerdict.NOT_APPLICABLE, 1.0, (text,)),
        decided_by=dict.fromkeys(("foreground", "anonymized"), "no-signal"),
        models=models.identities,
        timings_s={},
        remarks=(*remarks, Remark(RemarkCode.NO_SIGNAL, text)),
    )


def _doubted(verdict: Verdict, doubts: tuple[Remark, ...]) -> Verdict:
    """Return ``indeterminate`` if the scale of the volume is doubtful; ``face_present`` stays as it is."""
    if not doubts or verdict.verdict is SeriesVerdict.FACE_PRESENT:
        return verdict
    reasons = (*(doubt.text for doubt in doubts), *verdict.reasons)
    return Verdict(SeriesVerdict.INDETERMINATE, verdict.probability, reasons)


def _verdict_on(masks: Mapping[str, Mask], source: SourceVolume) -> tuple[Verdict, SegmentationFacts]:
    """Return the verdict on both masks, and the facts it is based on."""
    geometry = source.volume.get_geometry()
    canonical = reorientation_of(geometry)
    facts = gather_facts(
        canonical.to_canonical(masks["foreground"]),
        canonical.to_canonical(masks["anonymized"]),
        canonical.spacing_mm(geometry),
    )
    return decide_verdict(facts), facts


def _leave_out_missing_area(
    masks: dict[str, Mask], source: SourceVolume, unconfirmed: Mask | None
) -> tuple[Remark, ...]:
    """Remove voxels without a number from an anonymised area that does not cover the face, and return a remark.

    If all air is without numbers, it is filled with one value and looks like a tool's fill. An area that a tool really
    removed is then recognised by its shape and is large; small proposals are air. What only the judge found beyond them
    goes too.
    """
    if source.missing is None or not (masks["anonymized"] & source.missing).any():
        return ()
    left_out_ml = np.count_nonzero(masks["anonymized"] & source.missing) * source.volume.voxel_volume / 1000.0
    masks["anonymized"] = masks["anonymized"] & ~source.missing
    if unconfirmed is not None:
        masks["anonymized"] &= ~unconfirmed
    text = f"{left_out_ml:.1f} mL proposed as anonymised area were left out: air without numbers around the whole body"
    return (Remark(RemarkCode.ANONYMIZED_AREA_WITHOUT_NUMBERS, text),)


def _mask_of(labels: NDArray[np.uint8], mask_values: Iterable[int]) -> Mask:
    """Return the mask of voxels with one of the values, plane by plane because numpy needs 64-bit indices for it."""
    is_mask = np.zeros(256, bool)
    is_mask[list(mask_values)] = True
    mask = np.empty(labels.shape, bool)
    for index, plane in enumerate(labels):
        mask[index] = is_mask[plane]
    return mask


def _leave_out_area_without_face(masks: dict[str, Mask], source: SourceVolume) -> tuple[Remark, ...]:
    """Empty the anonymised area of a body without a face, and return a remark with its volume."""
    left_out_ml = np.count_nonzero(masks["anonymized"]) * source.volume.voxel_volume / 1000.0
    if left_out_ml == 0.0:
        return ()
    masks["anonymized"] = np.zeros_like(masks["anonymized"])
    text = f"{left_out_ml:.1f} mL proposed as anonymised area were left out: a body without a face in view"
    return (Remark(RemarkCode.ANONYMIZED_AREA_WITHOUT_FACE, text),)


def _for_refinement(
    source: SourceVolume, voxels: NDArray[np.float32], masks: Mapping[str, Mask]
) -> tuple[NDArray[np.float32], Spacing, Mask, Mask]:
    """Return voxels, spacing in mm, body and area with axes towards head, posterior and left."""
    geometry = source.volume.get_geometry()
    canonical = reorientation_of(geometry)
    body, area = (np.ascontiguousarray(canonical.to_canonical(masks[role])) for role in ("foreground", "anonymized"))
    return np.ascontiguousarray(canonical.to_canonical(voxels)), canonical.spacing_mm(geometry), body, area


def _refine(
    source: SourceVolume,
    voxels: NDArray[np.float32],
    models: Models,
    masks: dict[str, Mask],
    altered: Mask | None,
    judged: Judged,
) -> tuple[dict[str, str], Mask | None]:
    """Replace the masks of models with ``refine`` set.

    Return for each role what determined the contour, and the area that only the judge found, if there is some.
    """
    geometry = source.volume.get_geometry()
    canonical = reorientation_of(geometry)
    seen, spacing_mm, body, area = _for_refinement(source, voxels, masks)
    refined = refine_masks(
        seen,
        body,
        area,
        spacing_mm,
        foreground=models.foreground.spec.refine,
        anonymized=models.anonymized.spec.refine,
        is_ct=source.modality == "CT",
        judged=judged.area,
        judged_altered=judged.altered,
        altered_is_sure=judged.is_sure,
        altered=None if altered is None else np.ascontiguousarray(canonical.to_canonical(altered)),
    )
    masks["foreground"] = np.ascontiguousarray(canonical.to_source(refined.foreground))
    masks["anonymized"] = np.ascontiguousarray(canonical.to_source(refined.anonymized))
    unconfirmed = None
    if refined.unconfirmed is not None:
        unconfirmed = np.ascontiguousarray(canonical.to_source(refined.unconfirmed))
    return {role: str(decided) for role, decided in refined.decided_by.items()}, unconfirmed


class _SharedInputs:
    """Inputs of the models from one volume: reoriented, with or without padding, each made when first needed."""

    def __init__(self, source: SourceVolume, device: torch.device) -> None:
        self._source = source
        self._device = device
        self._voxels = np.asarray(source.volume.array, dtype=np.float32)
        self._unpadded: NDArray[np.float32] | None = None
        self._made: dict[tuple[bool, bool], tuple[Reorientation, Preprocessing]] = {}

    def unpadded(self) -> NDArray[np.float32]:
        """Return the source's voxels (slice, row, column) with CT padding raised to air."""
        if self._unpadded is None:
            self._unpadded = without_ct_padding(self._voxels, self._source.modality)
        return self._unpadded

    def for_model(self, model: LoadedModel) -> tuple[Reorientation, Preprocessing]:
        """Return the reorientation for this model, and the preprocessing it shares with others."""
        is_ras, is_refined = model.network.plans.is_ras, model.spec.refine
        if (is_ras, is_refined) not in self._made:
            geometry = self._source.volume.get_geometry()
            reorientation = reorientation_of(geometry, RAS if is_ras else CANONICAL)
            voxels = reorientation.to_canonical(self.unpadded() if is_refined else self._voxels)
            spacing_mm = reorientation.spacing_mm(geometry)
            preprocessing = Preprocessing(voxels, spacing_mm, device=self._device)
            self._made[is_ras, is_refined] = (reorientation, preprocessing)
        return self._made[is_ras, is_refined]

    def forget(self) -> None:
        """Free the memory of the prepared inputs."""
        self._made.clear()


class _StageClock:
    """Announce stages and measure how long they take."""

    def __init__(self, on_stage: OnStage | None) -> None:
        self._on_stage = on_stage
        self.timings_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage as a context manager."""
        if self._on_stage is not None:
            self._on_stage(name)
        started_at = time.perf_counter()
        yield
        self.timings_s[name] = time.perf_counter() - started_at
