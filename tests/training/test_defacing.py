"""Every simulated tool changes what its mask says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pydeface")

from training.atlas import BrainAtlas, load_template
from training.defacing import ALTERED, FAMILIES, NEED_DONORS, REMOVED, Scene, deface


@pytest.fixture(scope="module")
def head() -> Scene:
    return template_scene(noise_seed=1)


def template_scene(*, noise_seed: int, is_ct: bool = False) -> Scene:
    """The pydeface template itself on a coarse grid, with noise so that no two neighbours are equal by chance."""
    template = load_template().head
    step = 4
    voxels = template.voxels[::step, ::step, ::step].copy()
    noise = np.random.default_rng(noise_seed).uniform(0.25, 1.0, voxels.shape).astype(np.float32)
    body = voxels > 60
    affine = template.affine @ np.diag([step, step, step, 1.0])
    slices, rows, columns = np.indices(voxels.shape)
    brain = ((slices - 40) / 14) ** 2 + ((rows - 34) / 20) ** 2 + ((columns - 22) / 16) ** 2 < 1
    atlas = BrainAtlas(brain.astype(np.float32), affine)
    if is_ct:
        voxels = np.where(body, 40.0, -990.0).astype(np.float32)
    return Scene(voxels + noise, template.spacing_mm * step, body, affine, atlas, is_ct)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_voxels_outside_the_mask_keep_their_values(head: Scene, family: str, seed: int) -> None:
    change = deface(head, family, np.random.default_rng(seed), donors=[template_scene(noise_seed=9)])
    untouched = ~(change.removed | change.altered)
    np.testing.assert_array_equal(change.voxels[untouched], head.voxels[untouched])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tool_takes_part_of_the_face_and_leaves_the_brain(head: Scene, family: str) -> None:
    change = deface(head, family, np.random.default_rng(3), donors=[template_scene(noise_seed=9)])
    changed = (change.removed | change.altered) & head.body
    volume_ml = changed.sum() * np.prod(head.spacing_mm) / 1000
    assert 3.0 < volume_ml < 3000.0
    assert (changed & head.brain).sum() < 0.2 * head.brain.sum()


@pytest.mark.parametrize("family", list(REMOVED))
def test_what_was_removed_is_no_body_and_almost_all_of_it_is_overwritten(head: Scene, family: str) -> None:
    change = deface(head, family, np.random.default_rng(4))
    assert not change.altered.any()
    assert not (change.body & change.removed).any()
    assert (change.voxels != head.voxels)[change.removed].mean() > 0.99


@pytest.mark.parametrize("family", ALTERED)
def test_altering_removes_nothing(head: Scene, family: str) -> None:
    change = deface(head, family, np.random.default_rng(5), donors=[template_scene(noise_seed=9)])
    assert not change.removed.any()
    assert change.altered.any()


def test_pydeface_takes_the_neck_slab_below_its_template() -> None:
    scene = template_scene(noise_seed=1)
    lowered = scene.to_template.copy()
    lowered[2, 3] -= 40.0  # the scan reaches 40 mm below the template
    scene = Scene(scene.voxels, scene.spacing_mm, scene.body, lowered, scene.brain_atlas)
    slab = [REMOVED["pydeface"](scene, np.random.default_rng(seed))[:4].mean() for seed in range(12)]
    assert max(slab) == 1.0
    assert min(slab) < 0.5


def test_ct_is_filled_with_what_ct_tools_write() -> None:
    scene = template_scene(noise_seed=2, is_ct=True)
    fills = set()
    for seed in range(30):
        change = deface(scene, "quickshear", np.random.default_rng(seed))
        values, counts = np.unique(change.voxels[change.removed], return_counts=True)
        if counts.max() > 0.8 * counts.sum():
            fills.add(float(values[counts.argmax()]))
    assert {-1000.0, -1024.0} & fills
    assert 0.0 in fills


@pytest.mark.parametrize("family", NEED_DONORS)
def test_another_face_without_a_donor_is_refused(head: Scene, family: str) -> None:
    with pytest.raises(ValueError, match="donor"):
        deface(head, family, np.random.default_rng(0))
