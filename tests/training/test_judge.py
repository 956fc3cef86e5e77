"""The judge's training: labels that say what a tool did, patches at every part, and runs that go on to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

pytest.importorskip("pydeface")

from inference.errors import ModelError
from inference.judge.channels import CHANNEL_NAMES, View
from inference.judge.region import Landmarks
from inference.load_model import verify_model
from inference.models import JudgeScope, reference_model
from training.cohort import Cohort
from training.defacing import Scene
from training.judge import cases
from training.judge.cases import SHARES, draw_case
from training.judge.export import export_judge, ship_judge
from training.judge.heads import Heads, map_scene, scan_scene, sort_heads
from training.judge.loop import (
    Settings,
    draw_batch,
    has_enough,
    loss_of,
    make_learner,
    patch_names,
    rate_at,
    resume,
    take_away,
    train,
)
from training.judge.measure import judge_to_measure, measure_case, tables
from training.judge.patches import PATCH, draw_centres, first_answer, read_patch, write_patches
from training.judge.simulate import COUNTER_FILE, MOST_UNUSED, WAITING_FILE, has_room, simulated_core_s
from training.judge.tools import TOOLS, half_space
from training.judge.untouched import dark_neck, ghosts, low_field, vary_ct
from training.judge.val_cases import _write, kept_cases
from training.samples import IGNORE, anonymized_target


@pytest.fixture(scope="module")
def heads(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heads]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.judge.heads.MAX_VOXELS", 120_000)
        yield sort_heads(cohort, tmp_path_factory.mktemp("geometry"))


@pytest.fixture(scope="module")
def scene(heads: Heads) -> Scene:
    return scan_scene(heads.mr[0], heads)


def test_kept_geometry_is_the_scenes_own(heads: Heads, scene: Scene) -> None:
    assert (heads.folder / "head.npz").is_file()
    again = scan_scene(heads.mr[0], heads)
    depth_mm = ndimage.distance_transform_edt(scene.body, sampling=scene.spacing_mm)
    np.testing.assert_allclose(again.depth_mm, depth_mm, rtol=1e-3)
    np.testing.assert_array_equal(again.voxels, heads.mr[0].voxels)


def test_a_rendered_map_lies_where_its_geometry_says(heads: Heads) -> None:
    rendered = map_scene(heads.maps[0], heads, np.random.default_rng(1), is_ct=True)
    assert rendered.is_ct
    assert rendered.depth_mm.shape == rendered.voxels.shape
    assert (rendered.depth_mm[~rendered.body] == 0).all()
    assert np.median(rendered.voxels[rendered.height_mm > 20]) < -900  # air
    assert np.median(rendered.voxels[rendered.depth_mm > 8]) > -200  # tissue


def test_a_mirrored_head_has_its_left_ear_where_the_right_one_was(scene: Scene) -> None:
    mirrored = cases._mirrored(scene)
    last = scene.voxels.shape[2] - 1
    assert mirrored.voxels[20, 10, 3] == scene.voxels[20, 10, last - 3]
    x, y, z = scene.template_mm[:, 20, 10, last - 3]
    np.testing.assert_allclose(mirrored.template_mm[:, 20, 10, 3], (-x, y, z), atol=1e-3)


@pytest.mark.parametrize("tool", list(TOOLS))
def test_a_tool_changes_what_its_mask_says_and_nothing_else(scene: Scene, tool: str) -> None:
    change = TOOLS[tool](scene, np.random.default_rng(3), [scene])
    touched = change.removed | change.altered
    np.testing.assert_array_equal(change.voxels[~touched], scene.voxels[~touched])
    assert (touched & scene.body).any()
    target = anonymized_target(scene, change)
    expected = {"other face": 3, "template face": 3, "mean face": 2, "block face": 2}.get(tool, 1)
    assert set(np.unique(target[touched & scene.body])) == {expected}
    assert set(np.unique(target[touched & ~scene.body & ~change.body])) <= {IGNORE}
    assert not target[~touched].any()


def test_the_half_space_is_that_of_spm(cohort: Cohort) -> None:
    """-1.1 y + 0.98 z + 100 < 0 in MNI mm, y towards anterior, holds for the nose and not for the brain."""
    place = np.diag([4.0, 4.0, 4.0, 1.0])
    place[:3, 3] = (-100.0, -120.0, -140.0)
    # The array's axes are slice, row, column, those of the template x, y, z.
    place[:3, :3] = place[:3, :3][:, ::-1]
    voxels = np.full((60, 60, 50), 9.0, np.float32)
    scene = Scene(voxels, np.full(3, 4.0), np.ones(voxels.shape, bool), place, cohort.brain_atlas)
    removed = half_space(scene, np.random.default_rng(0)).removed
    share = {
        name: float(removed[np.linalg.norm(scene.template_mm - np.reshape(at, (3, 1, 1, 1)), axis=0) < 8].mean())
        for name, at in {"nose": (0.0, -105.0, -55.0), "brain": (0.0, -10.0, 20.0), "neck": (0.0, 10.0, -90.0)}.items()
    }
    assert share == {"nose": 1.0, "brain": 0.0, "neck": 0.0}


def test_half_of_the_cases_are_untouched_and_have_nothing_to_find(heads: Heads) -> None:
    drawn = [draw_case(heads, np.random.default_rng([7, number])) for number in range(24)]
    untouched = [case for case in drawn if case.kind not in SHARES]
    assert 6 <= len(untouched) <= 18
    assert not any(case.target.any() for case in untouched)
    assert sum(case.is_ct for case in drawn) >= 2
    assert all(np.isfinite(case.voxels).all() and case.target.shape == case.voxels.shape for case in drawn)
    again = draw_case(heads, np.random.default_rng([7, 3]))
    np.testing.assert_array_equal(again.voxels, drawn[3].voxels)
    assert sum(SHARES.values()) == pytest.approx(1)


def test_tools_that_are_left_out_change_no_case(heads: Heads) -> None:
    only = frozenset(SHARES) - {"oblique"}
    kinds = {draw_case(heads, np.random.default_rng([5, number]), only).kind for number in range(8)}
    assert "oblique" in kinds
    assert not kinds & only


def test_heads_with_fractions_are_mostly_cases_of_whole_numbers(heads: Heads) -> None:
    assert (heads.mr[0].voxels != np.round(heads.mr[0].voxels)).any()
    drawn = [draw_case(heads, np.random.default_rng([3, number])) for number in range(24)]
    scans = [case for case in drawn if not case.is_ct and case.kind in (*SHARES, "intact")]
    whole = [case for case in scans if (case.voxels == np.round(case.voxels)).all()]
    assert len(scans) >= 8
    assert 0.5 <= len(whole) / len(scans) < 1


@pytest.mark.parametrize("condition", [dark_neck, ghosts, low_field])
def test_what_scanners_do_keeps_the_grid_and_leaves_finite_values(scene: Scene, condition: object) -> None:
    changed = condition(scene, np.random.default_rng(2))  # type: ignore[operator]
    assert changed.voxels.shape == scene.voxels.shape
    assert np.isfinite(changed.voxels).all()
    assert changed.body is scene.body
    assert not np.array_equal(changed.voxels, scene.voxels)


def test_a_face_mask_and_a_head_rest_never_enter_the_body(heads: Heads) -> None:
    rendered = map_scene(heads.maps[0], heads, np.random.default_rng(1), is_ct=True)
    changed = [vary_ct(rendered, np.random.default_rng(seed)) for seed in range(6)]
    assert all(one.body is rendered.body for one in changed)
    assert any((one.voxels[rendered.height_mm > 3] > -500).mean() > 0.01 for one in changed)


def test_patches_lie_at_an_ear_as_often_as_at_the_face() -> None:
    target = np.zeros((60, 60, 60), np.uint8)
    target[:40, :30] = 1
    target[45:57, 45:57, 45:57] = 1
    target[0, 59, 59] = 1  # a crumb
    target[:40, 35:40] = IGNORE
    depth, context = np.full(target.shape, 20, np.float32), np.zeros((4, *target.shape), np.float32)
    context[0] = 1
    view = View(depth, depth, context, (slice(60),) * 3, Landmarks(0, 0, 0), (2.0, 2.0, 2.0))  # type: ignore[arg-type]
    centres = draw_centres(target, view, np.random.default_rng(0), 400)
    at_ear = np.mean([min(centre) >= 45 and max(centre) < 57 for centre in centres])
    assert 0.28 < at_ear < 0.42  # 0.7 of the patches lie at a change
    answer = first_answer(target, view, np.random.default_rng(0))
    assert answer.min() >= 0
    assert answer.max() <= 1
    assert answer[:38, :28].mean() > 0.5
    assert answer[42:, :28].max() < 0.5


def test_half_of_the_patches_lie_where_the_judge_was_wrong() -> None:
    target, errors = np.zeros((40, 40, 40), np.uint8), np.zeros((40, 40, 40), bool)
    errors[30:34, 30:34, 30:34] = True
    depth, context = np.full(target.shape, 20, np.float32), np.ones((4, *target.shape), np.float32)
    view = View(depth, depth, context, (slice(40),) * 3, Landmarks(0, 0, 0), (2.0, 2.0, 2.0))  # type: ignore[arg-type]
    centres = draw_centres(target, view, np.random.default_rng(0), 200, errors)
    assert 0.4 < np.mean([errors[centre] for centre in centres]) < 0.6


def test_fractions_tell_nothing_and_written_values_stay() -> None:
    voxels = np.round(np.random.default_rng(0).normal(100, 9, (20, 20, 20))).astype(np.float32)
    voxels[:10] = 7
    dithered = cases._with_fractions(voxels, np.random.default_rng(1))
    np.testing.assert_array_equal(dithered[:9], 7)
    np.testing.assert_array_equal(np.round(dithered[12:]), voxels[12:])
    assert np.unique(dithered[12:]).size > 0.9 * voxels[12:].size


def test_loss_ignores_what_is_not_to_be_judged_and_adds_dice_where_enough_is_changed() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 4, 8, 8, 8), torch.zeros((2, 8, 8, 8), dtype=torch.long)
    target[:, :4], target[:, :, :, 6:] = 2, IGNORE
    other = logits.clone()
    other[..., 6:] += 3
    assert loss_of(logits, target, 10)[0] == loss_of(other, target, 10)[0]
    assert loss_of(logits, target, 10_000)[1] is None
    sure = torch.full((2, 4, 8, 8, 8), -20.0)
    sure[:, 2, :4], sure[:, 0, 4:] = 20.0, 20.0
    loss, dice = loss_of(sure, target, 10)
    assert loss == pytest.approx(0, abs=1e-4)
    assert dice == pytest.approx(1, abs=1e-4)


def write_random_patches(folder: Path, n_cases: int, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + n_cases):
        rng = np.random.default_rng(number)
        patch = rng.normal(0, 1, (len(CHANNEL_NAMES) + 1, *PATCH)).astype(np.float16)
        patch[-1] = patch[0] > 1
        write_patches([patch, patch[..., ::-1]], folder, f"{number:08d}")


def test_a_patch_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_random_patches(tmp_path, 1)
    channels, target = read_patch(tmp_path / "00000000-0.npy")
    assert channels.shape == (len(CHANNEL_NAMES), *PATCH)
    np.testing.assert_array_equal(target, channels[0] > 1)
    np.save(tmp_path / "other.npy", np.zeros((3, 4, 4, 4), np.float16))
    with pytest.raises(ValueError, match="empty the folder"):
        read_patch(tmp_path / "other.npy")


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds instead of minutes: narrow, on small patches."""
    from training.judge import network, patches

    monkeypatch.setattr(patches, "PATCH", (8, 8, 8))
    monkeypatch.setattr(f"{__name__}.PATCH", (8, 8, 8))
    monkeypatch.setitem(network.ARCHITECTURE, "features_per_stage", [4, 4, 4, 4])


@pytest.mark.usefixtures("small_network")
def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(tmp_path: Path) -> None:
    # In bfloat16, convolutions of a few voxels differ from run to run (torch 2, CPU); those of whole patches don't.
    settings = Settings(batch_size=2, warm_up_steps=2, is_bfloat16=False)
    weights = []
    for name, ends in (("whole", [6]), ("parts", [2, 3, 6])):
        write_random_patches(tmp_path / name / "patches", 3)
        for end in ends:
            torch.manual_seed(end)  # whatever else was drawn before
            learner = train(tmp_path / name, settings, simulator=None, until_step=end)
        weights.append([*learner.network.state_dict().values(), *learner.average.state_dict().values()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    assert learner.steps == 6


def test_new_patches_come_first_and_hard_ones_more_often() -> None:
    settings = Settings(batch_size=1)
    learner = make_learner(settings)
    names = [f"{number:08d}-0.npy" for number in range(10)]
    learner.false_shares = dict.fromkeys(names[:9], 0.0) | {names[0]: 0.1}
    counts = dict.fromkeys(names, 0)
    for step in range(600):
        learner.steps = step
        counts[draw_batch(learner, names, settings)[0]] += 1
    assert counts[names[9]] > 2.5 * counts[names[4]]
    assert counts[names[0]] > 2.5 * counts[names[4]]
    learner.steps = 5
    assert draw_batch(learner, names, settings) == draw_batch(learner, names, settings)


@pytest.mark.usefixtures("small_network")
def test_old_patches_go_and_hard_ones_stay_a_while(tmp_path: Path) -> None:
    write_random_patches(tmp_path, 10)
    settings = Settings(most_patches=8, kept_hard=2, hard_life=2)
    learner = make_learner(settings)
    learner.false_shares = {"00000000-0.npy": 0.2, "00000001-1.npy": 0.05, "00000002-0.npy": 0.001}
    left = take_away(learner, patch_names(tmp_path), tmp_path, settings)
    assert left == patch_names(tmp_path)
    assert len(left) == 8
    assert {"00000000-0.npy", "00000001-1.npy"} <= set(left)
    assert "00000002-0.npy" not in learner.false_shares


def test_simulation_pauses_while_nothing_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    folder.mkdir()
    assert has_room(folder, tmp_path / WAITING_FILE)
    (tmp_path / WAITING_FILE).write_text(str(MOST_UNUSED))
    assert not has_room(folder, tmp_path / WAITING_FILE)


@pytest.mark.usefixtures("small_network")
def test_a_run_without_a_checkpoint_goes_on_from_exported_weights(tmp_path: Path) -> None:
    learner = make_learner(Settings())
    learner.steps, learner.core_s = 123, 7200.0
    export_judge(tmp_path / "weights", learner, simulation_core_s=3600.0, n_cases=50)
    resumed = resume(tmp_path / "work", Settings(), tmp_path / "weights")
    assert (resumed.steps, resumed.core_s) == (123, 7200.0)
    assert simulated_core_s(tmp_path / "work") == 3600.0
    assert (tmp_path / "work" / COUNTER_FILE).read_text() == "50"  # the next case, not the first again
    for name, values in learner.average.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], values, rtol=1e-3, atol=1e-4)
    weights = tmp_path / "weights" / "weights.pth"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(ModelError, match=r"weights\.pth"):
        resume(tmp_path / "work", Settings(), tmp_path / "weights")


@pytest.mark.usefixtures("small_network")
def test_a_shipped_judge_is_part_of_the_models_identity(tmp_path: Path) -> None:
    export_judge(tmp_path / "weights", make_learner(Settings()), simulation_core_s=1.0, n_cases=1)
    before = reference_model("anonymized")
    shutil.copytree(before.folder, tmp_path / "model")
    ship_judge(tmp_path / "weights", tmp_path / "model", "9.9.9")
    shipped = verify_model(tmp_path / "model")
    assert shipped.judge is JudgeScope.OUTLINE
    assert shipped.identity.version == "9.9.9"
    assert shipped.identity.sha256 != before.identity.sha256
    assert (shipped.labels, shipped.channels) == (before.labels, before.channels)


class Everything(torch.nn.Module):
    """Finds `removed` in every voxel."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        answer = torch.full((1, 4, *values.shape[2:]), -9.0)
        answer[:, 1] = 9.0
        return answer


def test_an_untrained_judge_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="train first, or --shipped"):
        judge_to_measure(tmp_path, tmp_path / "weights", tmp_path, is_shipped=False)


def test_the_judge_is_measured_against_the_truth_and_beside_todays_result(tmp_path: Path) -> None:
    shape = (40, 40, 40)
    voxels = np.random.default_rng(0).normal(100, 9, shape).astype(np.float32)
    body, changed, half = (np.zeros(shape, bool) for _ in range(3))
    body[:, 10:], changed[:20, :20], half[:20, :15] = True, True, True
    spacing = (2.0, 2.0, 2.0)
    context = np.full((4, 8, 8, 8), 0.25, np.float32)
    masks = {"body": body, "network": half, "today": half, "truth": changed, "intact_body": body}
    for condition, own in (("box", masks), ("intact", {name: masks[name] for name in ("body", "network", "today")})):
        facts = {"key": ("head", "MR", condition), "truth": "face", "spacing_mm": spacing, "is_ct": False}
        _write(tmp_path / f"{condition}.npz", facts, voxels, context, own)
    cut, untouched = (measure_case(case, Everything()) for case in kept_cases(tmp_path))
    # In the body: 20 x 10 x 40 voxels were cut, today has 20 x 5 x 40 of them. The judge
    # paints its whole region, which ends 28 mm below a vertex at 88 mm: 30 slices, in the body 30 x 30 x 40.
    assert cut.dice_today == pytest.approx(2 * 4000 / (8000 + 4000), abs=1e-4)
    assert cut.dice_judge == pytest.approx(2 * 8000 / (8000 + 36000), abs=1e-4)
    assert cut.false_ml == pytest.approx((48000 - 16000) * 0.008)
    assert untouched.dice_judge is None
    assert untouched.false_today_ml == pytest.approx(20 * 15 * 40 * 0.008)
    assert untouched.false_ml == pytest.approx(48000 * 0.008)
    assert cut.dice_with_face == cut.dice_today  # nothing is smoothed or replaced
    assert cut.dice_with_outline == cut.dice_judge  # it is sure, and no rule finds anything in these values
    row = "| box, MR | 1 | 0.667 / 0.667 | 0.364 / 0.364 | 0.667 / 0.667 | 0.364 / 0.364 | 256.0 / 256.0 |"
    assert row in tables([cut, untouched])


def test_training_waits_for_new_patches_rather_than_learn_few_by_heart() -> None:
    settings = Settings(batch_size=2, most_uses=3.0)
    learner, names = make_learner(settings), [f"{number:08d}-0.npy" for number in range(20)]
    learner.uses = dict.fromkeys(names, 2)
    assert has_enough(learner, names, settings)
    assert not has_enough(learner, names[:19], settings)
    learner.uses = dict.fromkeys(names, 3)
    assert not has_enough(learner, names, settings)
    assert has_enough(learner, [*names, "00000020-0.npy"], settings)


def test_the_rate_is_low_where_the_optimiser_has_no_state_yet() -> None:
    settings = Settings(learning_rate=1.0, full_rate_steps=4000, warm_up_steps=10)
    assert rate_at(1000, settings, first_step=1000) == pytest.approx(0.1)
    assert rate_at(1009, settings, first_step=1000) == pytest.approx(1.0)


def test_the_rate_falls_to_nothing_before_the_last_step() -> None:
    settings = Settings(learning_rate=1.0, full_rate_steps=4000, warm_up_steps=10, cool_down_steps=100)
    assert [rate_at(step, settings, last_step=2000) for step in (1900, 1950, 2000)] == pytest.approx([1.0, 0.5, 0.0])
    assert rate_at(1950, settings) == pytest.approx(1.0)
