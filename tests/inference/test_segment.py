"""Both models on one volume: masks on the source grid whatever its orientation, and the verdict from them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import torch

from inference.input_checks import check_model_grid
from inference.judge.altered_face import FACE_ML, FRONT_MM
from inference.judge.channels import CHANNEL_NAMES
from inference.models import JudgeScope, read_model_spec, reference_model
from inference.nnunet.errors import ModelKeyError, ResourcesExhaustedError
from inference.segment import Models, load_models, segment
from inference.series.errors import FieldOfViewError, SeriesTooLargeError
from inference.series.remarks import Remark, RemarkCode
from inference.series.volume import SourceVolume
from inference.verdict.verdict import SeriesVerdict, Verdict
from tests.phantom_head import SPACING_MM as HEAD_SPACING_MM
from tests.phantom_head import phantom
from tests.tiny_models import write_tiny_model

SPACING_MM = (4.0, 3.0, 2.0)
BODY_ABOVE, REMOVED_ABOVE = -300.0, 900.0


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Models that mark exactly what is above a value, on the grid of the volumes here (in canonical order)."""
    root = tmp_path_factory.mktemp("models")
    options = {"spacing_mm": SPACING_MM, "patch_size": (16, 16, 16)}
    body = write_tiny_model(root / "body", "foreground", above=BODY_ABOVE, **options)
    removed = write_tiny_model(root / "removed", "anonymized", above=REMOVED_ABOVE, **options)
    return body, removed


@pytest.fixture(scope="module")
def models(folders: tuple[Path, Path]) -> Models:
    return load_models(read_model_spec(folders[0]), read_model_spec(folders[1]), device="cpu")


def source_volume(
    voxels: np.ndarray, *, orientation: str = "HPL", spacing_mm: tuple[float, float, float] = SPACING_MM
) -> SourceVolume:
    """Volume from an array in canonical order, turned to ``orientation``."""
    canonical = hd.Volume.from_components(
        voxels.astype(np.float32),
        spacing=spacing_mm,
        position=(5.0, -7.0, 11.0),
        patient_orientation="HPL",
        coordinate_system="PATIENT",
    )
    volume = canonical.to_patient_orientation(orientation)
    return SourceVolume(volume, (), (), "CT", "1.2.3", remarks=(Remark(RemarkCode.TILTED, "something noticed"),))


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1000.0, 1500.0, shape)


@pytest.mark.parametrize("orientation", ["HPL", "FPL", "LHP", "PRF", "ALH"])
def test_masks_lie_on_the_source_grid_in_any_orientation(orientation: str, models: Models) -> None:
    source = source_volume(noise((21, 26, 31)), orientation=orientation)
    found = segment(source, models)
    voxels = source.volume.array
    assert found.foreground.dtype == found.anonymized.dtype == np.bool_
    np.testing.assert_array_equal(found.foreground, voxels > BODY_ABOVE)
    np.testing.assert_array_equal(found.anonymized, voxels > REMOVED_ABOVE)


@pytest.mark.parametrize("shape", [(1, 40, 50), (2, 3, 16), (90, 5, 18)])
def test_flat_and_tiny_volumes_work(shape: tuple[int, int, int], models: Models) -> None:
    source = source_volume(noise(shape))
    np.testing.assert_array_equal(segment(source, models).foreground, source.volume.array > BODY_ABOVE)


def test_an_empty_volume_has_empty_masks(models: Models) -> None:
    found = segment(source_volume(np.full((8, 9, 10), -1000.0)), models)
    assert not found.foreground.any()
    assert not found.anonymized.any()
    assert found.verdict.verdict is SeriesVerdict.NOT_APPLICABLE


def test_few_voxels_far_apart_are_refused_before_a_grid_is_laid_over_them(models: Models) -> None:
    far_apart = source_volume(noise((8, 9, 10)), spacing_mm=(4.0, 90_000.0, 90_000.0))
    with pytest.raises(FieldOfViewError, match=r"1\.2\.3: the volume is 32\.0 x 810000\.0 x 900000\.0 mm"):
        segment(far_apart, models)
    # 8 x (9 x 90000 / 3) x (10 x 90000 / 2)
    with pytest.raises(SeriesTooLargeError, match=r"1\.2\.3: 972000000000 voxels on the grid of the foreground model"):
        check_model_grid(far_apart, "foreground", (8, 270_000, 450_000))


def test_stages_are_announced_and_measured_in_order(models: Models) -> None:
    announced: list[str] = []
    shares: list[float] = []
    found = segment(source_volume(noise((20, 9, 10))), models, on_stage=announced.append, on_share=shares.append)
    assert shares.count(1.0) == 2  # of the stages of two networks
    assert all(0.0 < share <= 1.0 for share in shares)
    assert list(found.timings_s) == announced
    assert all(seconds >= 0.0 for seconds in found.timings_s.values())
    assert [model.role for model in found.models] == ["foreground", "anonymized"]
    assert found.decided_by == {"foreground": "network", "anonymized": "network"}
    assert found.remarks == (Remark(RemarkCode.TILTED, "something noticed"),)


def test_a_head_with_a_filled_face_is_defaced_and_a_whole_one_is_not(tmp_path: Path) -> None:
    options = {"spacing_mm": (8.0, 8.0, 8.0), "patch_size": (16, 16, 16)}
    body = write_tiny_model(tmp_path / "body", "foreground", above=BODY_ABOVE, **options)
    removed = write_tiny_model(tmp_path / "removed", "anonymized", above=REMOVED_ABOVE, **options)
    models = load_models(read_model_spec(body), read_model_spec(removed), device="cpu")
    position = np.stack(np.meshgrid(*(np.arange(n) for n in (60, 75, 90)), indexing="ij"), -1) * SPACING_MM
    offset = (position - (120.0, 112.0, 90.0)) / (105.0, 95.0, 75.0)
    head = np.where((offset**2).sum(-1) < 1, 40.0, -1000.0)
    assert segment(source_volume(head), models).verdict.verdict is SeriesVerdict.FACE_PRESENT
    filled = head.copy()
    filled[:35, :25] = np.where(head[:35, :25] > 0, 1200.0, -1000.0)
    assert segment(source_volume(filled), models).verdict.verdict is SeriesVerdict.DEFACED


def test_area_in_a_body_without_a_face_is_left_out_and_said(tmp_path: Path) -> None:
    options = {"spacing_mm": (8.0, 8.0, 8.0), "patch_size": (16, 16, 16)}
    body = write_tiny_model(tmp_path / "body", "foreground", above=BODY_ABOVE, **options)
    removed = write_tiny_model(tmp_path / "removed", "anonymized", above=REMOVED_ABOVE, **options)
    models = load_models(read_model_spec(body), read_model_spec(removed), device="cpu")
    row, column = np.meshgrid(np.linspace(-1.1, 1.1, 100), np.linspace(-1.1, 1.1, 190), indexing="ij")
    trunk = np.broadcast_to(np.where(row**2 + column**2 < 1, 40.0, -1000.0), (60, 100, 190)).copy()
    trunk[20:40, 40:60, 80:110] = 1200.0
    found = segment(source_volume(trunk), models)
    assert found.verdict.verdict is SeriesVerdict.NOT_APPLICABLE
    assert found.foreground.any()
    assert not found.anonymized.any()
    assert "anonymized-area-without-face" in {remark.code for remark in found.remarks}


def test_the_same_volume_gives_the_same_masks_twice(models: Models) -> None:
    source = source_volume(noise((20, 21, 22), seed=4))
    first, second = segment(source, models), segment(source, models)
    np.testing.assert_array_equal(first.foreground, second.foreground)


def test_the_source_is_not_written_to(models: Models) -> None:
    source = source_volume(noise((12, 13, 14)))
    before = source.volume.array.copy()
    source.volume.array.flags.writeable = False
    segment(source, models)
    np.testing.assert_array_equal(source.volume.array, before)


def test_a_channel_that_both_models_need_is_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = write_tiny_model(tmp_path / "body", "foreground", above=0.0)
    removed = write_tiny_model(tmp_path / "removed", "anonymized", above=0.0, channels=("image", "constancy"))
    models = load_models(read_model_spec(body), read_model_spec(removed), device="cpu")
    import inference.nnunet.preprocessing as room

    calls: list[tuple[int, ...]] = []
    original = room.resample

    def counted(values: np.ndarray, *arguments: object, **options: object) -> torch.Tensor:
        calls.append(values.shape)
        return original(values, *arguments, **options)

    monkeypatch.setattr(room, "resample", counted)
    segment(source_volume(noise((12, 13, 14))), models)
    assert len(calls) == 2  # image and constancy, not image twice


def test_models_of_the_wrong_role_are_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ModelKeyError, match="role: found foreground, expected anonymized"):
        load_models(read_model_spec(folders[0]), read_model_spec(folders[0]), device="cpu")


def test_memory_that_runs_out_halves_the_batch_and_then_gives_up(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = models.foreground.network
    monkeypatch.setattr(network, "_batch_size", 4)
    sizes: list[int] = []
    original = network._average

    def short_of_memory(tiles: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tiles))
        if len(tiles) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(tiles)

    monkeypatch.setattr(network, "_average", short_of_memory)
    source = source_volume(noise((16, 30, 31)))
    np.testing.assert_array_equal(segment(source, models).foreground, source.volume.array > BODY_ABOVE)
    assert sizes[:3] == [4, 2, 1]

    def no_memory(tiles: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network, "_average", no_memory)
    with pytest.raises(ResourcesExhaustedError, match="memory ran out at segmentation"):
        segment(source, models)


def test_models_trained_on_ras_are_fed_ras(folders: tuple[Path, Path], models: Models) -> None:
    network = models.foreground.network
    plans = dataclasses.replace(network.plans, is_ras=True)
    seen: list[torch.Tensor] = []
    original = network.predict_labels
    source = source_volume(noise((8, 9, 10)))
    try:
        network.plans = plans
        network.predict_labels = lambda prepared, *rest: (seen.append(prepared.values), original(prepared, *rest))[1]  # type: ignore[method-assign]
        found = segment(source, models)
    finally:
        network.plans = dataclasses.replace(plans, is_ras=False)
        del network.predict_labels
    np.testing.assert_array_equal(seen[0][0].numpy(), source.volume.array[:, ::-1, ::-1])
    np.testing.assert_array_equal(found.foreground, source.volume.array > BODY_ABOVE)


class BrightIsReplaced(torch.nn.Module):
    """A judge that takes what is twice as bright as tissue for another face."""

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        is_bright = channels[:, CHANNEL_NAMES.index("value")] > 1.5
        logits = torch.full((channels.shape[0], 4, *channels.shape[2:]), -9.0)
        logits[:, 0], logits[:, 3] = torch.where(is_bright, -9.0, 9.0), torch.where(is_bright, 9.0, -9.0)
        return logits


def with_bright_judge(scope: JudgeScope) -> Models:
    loaded = load_models(reference_model("foreground"), reference_model("anonymized"), device="cpu")
    spec = dataclasses.replace(loaded.anonymized.spec, judge=scope)
    return dataclasses.replace(
        loaded, anonymized=dataclasses.replace(loaded.anonymized, judge=BrightIsReplaced(), spec=spec)
    )


def bright_block(size: tuple[slice, slice, slice]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Return a head with a block of other tissue, and the block."""
    head = phantom()
    block = np.zeros(head.voxels.shape, bool)
    block[size] = True
    block &= head.body
    return np.where(block, 1300 + head.voxels % 100, head.voxels), block


@pytest.fixture
def _face_in_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the phantom, which is smaller than a head, for one with a face."""
    there = Verdict(SeriesVerdict.FACE_PRESENT, 1.0, ())
    monkeypatch.setattr("inference.judge_stage.decide_verdict", lambda _facts: there)


@pytest.mark.usefixtures("_face_in_view")
@pytest.mark.parametrize(
    ("orientation", "scope"), [("HPL", JudgeScope.ALTERED), ("LAF", JudgeScope.OUTLINE), ("PHR", JudgeScope.ALTERED)]
)
def test_what_the_judge_finds_lies_where_it_is_in_any_orientation(orientation: str, scope: JudgeScope) -> None:
    voxels, block = bright_block((slice(18, 42), slice(22, 50), slice(25, 65)))
    announced: list[str] = []
    source = source_volume(voxels, orientation=orientation, spacing_mm=HEAD_SPACING_MM)
    with_skin = block.copy()
    for step in range(1, round(FRONT_MM / HEAD_SPACING_MM[1]) + 1):
        with_skin[:, :-step] |= block[:, step:]
    truth, largest = (
        source_volume(mask, orientation=orientation, spacing_mm=HEAD_SPACING_MM).volume.array > 0
        for mask in (block, with_skin)
    )
    found = segment(source, with_bright_judge(scope), on_stage=announced.append)
    assert announced.index("judge") < announced.index("refine")
    assert found.decided_by["anonymized"] == "judge"
    assert found.anonymized[truth].all()
    assert not found.anonymized[~largest].any()
    assert np.count_nonzero(found.anonymized) > np.count_nonzero(truth)
    assert found.foreground[truth].mean() > 0.95


@pytest.mark.usefixtures("_face_in_view")
def test_a_judge_of_alterations_is_not_believed_on_less_than_a_face() -> None:
    voxels, block = bright_block((slice(20, 30), slice(30, 42), slice(30, 55)))
    assert 3 < np.count_nonzero(block) * np.prod(HEAD_SPACING_MM) / 1000 < FACE_ML
    found = segment(source_volume(voxels, spacing_mm=HEAD_SPACING_MM), with_bright_judge(JudgeScope.ALTERED))
    assert not found.anonymized.any()


def test_where_no_face_is_in_view_none_can_be_altered() -> None:
    voxels, _ = bright_block((slice(18, 42), slice(22, 50), slice(25, 65)))
    found = segment(source_volume(voxels, spacing_mm=HEAD_SPACING_MM), with_bright_judge(JudgeScope.ALTERED))
    assert not found.anonymized.any()
