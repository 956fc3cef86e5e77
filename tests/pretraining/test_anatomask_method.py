"""AnatoMask as a whole: masks that say nothing change nothing, altered voxels count nowhere, runs resume to the bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretraining.anatomask import AnatoMask, Options, build
from pretraining.anatomask.blocks import block_errors, mean_over_scored, to_blocks
from pretraining.anatomask.sampling import PatchSampler, draw_matrix, read_transformed
from pretraining.errors import SettingRefused
from pretraining.method import Moment, sample_rng, stack, step_rng
from pretraining.networks import NetworkPlan, plan_from_preset

PATCH = (16, 32, 24)
OPTIONS = Options(decoder_width=8, learning_rate=5e-3, decay=(0.9, 0.99), warm_up_share=0.0)


@dataclass(frozen=True)
class Ball:
    """A volume in memory: a textured ball in air, its front altered."""

    image: NDArray[np.float32]
    body: NDArray[np.bool_]
    altered: NDArray[np.bool_]
    id: str = "ball"
    air: float = -1.0
    is_endless: bool = False  # what lies outside is body too

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.image.shape  # type: ignore[return-value]

    def body_share(self, starts: NDArray[np.int64], size: tuple[int, int, int]) -> NDArray[np.float64]:
        return np.array([self.read(start, size)[1].mean() for start in starts])

    def read(
        self, start: tuple[int, int, int], size: tuple[int, int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        low = [max(0, -place) for place in start]
        high = [max(0, place + n - m) for place, n, m in zip(start, size, self.shape, strict=True)]
        window = tuple(slice(max(0, place), place + n) for place, n in zip(start, size, strict=True))
        widths = list(zip(low, high, strict=True))
        body = np.pad(self.body[window], widths, constant_values=self.is_endless)
        return np.pad(self.image[window], widths, constant_values=self.air), body, np.pad(self.altered[window], widths)


def ball(n: int = 44) -> Ball:
    rng = np.random.default_rng(5)
    z, y, x = np.indices((n, n + 4, n - 4), dtype=np.float32)
    body = (z - n / 2) ** 2 + (y - n / 2 - 2) ** 2 + (x - n / 2 + 2) ** 2 < (0.45 * n) ** 2
    image = np.where(body, np.sin(z / 3) + np.cos(y / 5) + 0.2 * rng.normal(size=body.shape), -1.0)
    return Ball(image.astype(np.float32), body, body & (y < n / 4))


def plan() -> NetworkPlan:
    base = plan_from_preset("small")
    settings = {**base.plans["configurations"]["3d_fullres"], "patch_size": list(PATCH)}
    return NetworkPlan({**base.plans, "configurations": {"3d_fullres": settings}})


def method(options: Options = OPTIONS, *, use_masks: bool = True) -> AnatoMask:
    torch.manual_seed(7)
    return build(options, plan(), use_masks=use_masks)


def batch(made: AnatoMask, step: int = 0) -> dict[str, Tensor]:
    return stack(made.sampler(ball(), sample_rng(1, step, number)) for number in range(2))


def run(made: AnatoMask, steps: range, n_steps: int = 12) -> list[float]:
    """Train as the loop does, from the state that ``made`` is in."""
    made.module.train()
    optimizer, schedule = made.configure(n_steps)
    if steps.start:
        optimizer.load_state_dict(made.kept[0])  # type: ignore[attr-defined]
        schedule.load_state_dict(made.kept[1])  # type: ignore[attr-defined]
    losses = []
    for step in steps:
        outcome = made.loss(made.module, batch(made, step), Moment(step, n_steps), step_rng(1, step))
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        schedule.step()
        made.after_step(Moment(step, n_steps))
        losses.append(float(outcome.loss.detach()))
    made.kept = (optimizer.state_dict(), schedule.state_dict())  # type: ignore[attr-defined]
    return losses


def test_masks_that_say_nothing_change_nothing() -> None:
    masked, plain = method(), method(use_masks=False)
    whole = replace(ball(), body=np.ones((44, 48, 40), bool), altered=np.zeros((44, 48, 40), bool), is_endless=True)
    inner = [(m, stack(m.sampler(whole, sample_rng(1, 0, n)) for n in range(2))) for m in (masked, plain)]
    moment = Moment(99, 100)
    outcomes = [m.loss(m.module.train(), b, moment, step_rng(1, 0)) for m, b in inner]
    assert torch.equal(inner[0][1]["image"], inner[1][1]["image"])
    roles = masked._ask(inner[0][1]).roles
    picks = [m._choose(m._ask(b), 0.5, step_rng(1, 0))[0] for m, b in inner]
    assert np.array_equal(*picks)
    assert picks[0].sum(1).tolist() == [round(0.6 * roles.candidate.shape[1])] * 2
    assert float(outcomes[0].loss.detach()) == pytest.approx(float(outcomes[1].loss.detach()), abs=1e-6)


def test_altered_voxels_have_no_gradient_and_no_influence_on_loss_and_blocks() -> None:
    made = method()
    given = batch(made)
    altered = given["altered"]
    assert 0.02 < float(altered.float().mean()) < 0.6
    noisy = {**given, "image": torch.where(altered, 100 * torch.randn(altered.shape), given["image"])}
    asked, spoilt = made._ask(given), made._ask(noisy)
    prediction = torch.randn(given["image"].shape, requires_grad=True)
    losses = []
    for question in (asked, spoilt):
        scored = torch.ones(question.weights.shape[:2])
        errors = block_errors(to_blocks(prediction, made.side), question.target, question.weights)
        losses.append(mean_over_scored(errors, scored))
    losses[0].backward()
    assert torch.equal(*losses)
    assert prediction.grad is not None
    assert float(prediction.grad[altered].abs().max()) == 0
    assert float(prediction.grad[~altered].abs().min()) > 0
    # The teacher sees the same visible voxels in both: its choice depends on the targets alone.
    spoilt = replace(spoilt, image=asked.image)
    chosen = [made._choose(question, 0.5, step_rng(1, 0), always=True) for question in (asked, spoilt)]
    assert np.array_equal(chosen[0][0], chosen[1][0])
    assert np.array_equal(chosen[0][1], chosen[1][1])


def test_the_student_sees_no_mostly_altered_block_and_is_not_asked_for_it() -> None:
    made = method()
    given = batch(made)
    given["altered"][0, :, :8, :8] = True  # four blocks in a row
    asked = made._ask(given)
    scored = made._choose(asked, 0.5, step_rng(1, 0))[0]
    assert asked.roles.untrue[0].sum() >= 3
    assert not made.visible(asked.roles, scored)[0].flatten()[torch.from_numpy(asked.roles.untrue[0])].any()
    assert not (scored & ~asked.roles.candidate).any()


def test_the_loss_falls_and_a_resumed_run_equals_an_unbroken_one() -> None:
    unbroken, first = method(), method()
    losses = run(unbroken, range(12))
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    run(first, range(5))
    second = build(OPTIONS, plan(), use_masks=True)  # new weights
    second.module.load_state_dict(first.module.state_dict())
    second.load_state_dict(first.state_dict())
    second.kept = first.kept  # type: ignore[attr-defined]
    assert run(second, range(5, 12)) == losses[5:]
    ends = (unbroken.network.state_dict(), second.network.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    averages = (unbroken.teacher.state_dict(), second.teacher.state_dict())
    assert all(torch.equal(value, averages[1][key]) for key, value in averages[0].items())


def test_the_teacher_is_the_moving_average_of_weights_and_of_the_decoders_statistics() -> None:
    made = method()
    before = {key: value.clone() for key, value in made.module.state_dict().items()}
    run(made, range(1))
    after, teacher = made.module.state_dict(), made.teacher.module.state_dict()
    moved = [key for key in before if before[key].is_floating_point() and not torch.equal(before[key], after[key])]
    assert any("running_var" in key for key in moved)
    assert any("encoder" in key for key in moved)
    for key in moved:
        assert torch.allclose(teacher[key], before[key].lerp(after[key], 0.1), atol=1e-6), key


def test_raw_importance_compares_with_raw_values() -> None:
    raw, normalized = method(replace(OPTIONS, importance="raw")), method()
    given = batch(raw)
    asked = raw._ask(given)
    hidden = asked.roles.candidate
    with torch.no_grad():
        answer = to_blocks(raw.teacher(asked.image, raw.visible(asked.roles, hidden)), raw.side)
    expected = ((answer - to_blocks(given["image"], raw.side)) ** 2 * asked.weights).sum(-1) / asked.weights.sum(-1)
    assert np.allclose(raw.importance(asked, hidden)[hidden], expected.numpy()[hidden], rtol=1e-5)
    assert not np.allclose(raw.importance(asked, hidden), normalized.importance(asked, hidden))


def test_a_batch_of_air_has_a_loss_of_0_and_a_gradient() -> None:
    made = method()
    given = {**batch(made), "body": torch.zeros(2, 1, *PATCH, dtype=torch.bool)}
    loss = made.loss(made.module.train(), given, Moment(50, 100), step_rng(1, 0)).loss
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(bool(p.grad.isfinite().all()) for p in made.module.parameters() if p.grad is not None)


def test_pictures_show_what_is_hidden_and_leave_training_on() -> None:
    made = method()
    made.module.train()
    shown = made.draw(batch(made), Moment(50, 100), step_rng(1, 0))
    assert [panel.title for panel in shown] == [
        "image",
        "what the network sees",
        "its reconstruction",
        "importance to the teacher",
    ]
    assert {panel.pixels.shape for panel in shown} == {PATCH[1:]}
    assert float(shown[3].pixels.max()) == pytest.approx(1)
    assert float(shown[3].pixels.min()) == 0
    assert (shown[1].pixels == 0).sum() > (shown[0].pixels == 0).sum()
    assert made.module.training
    assert not made.teacher.training


def test_a_patch_is_mostly_body_and_has_blocks_to_choose_from() -> None:
    sampler = PatchSampler(PATCH, (8, 8, 8))
    plain = PatchSampler(PATCH, (8, 8, 8), use_masks=False)
    shares = [float(sampler(ball(), np.random.default_rng(n))["body"].float().mean()) for n in range(12)]
    assert np.mean(shares) > 0.75
    assert plain(ball(), np.random.default_rng(1))["body"].all()
    assert not plain(ball(), np.random.default_rng(1))["altered"].any()


def test_a_turned_patch_shows_the_same_place_turned() -> None:
    volume = ball()
    straight = volume.read((10, 6, 9), PATCH)
    same = read_transformed(volume, (10, 6, 9), PATCH, np.eye(3))
    assert np.allclose(same[0], straight[0], atol=1e-5)
    assert np.array_equal(same[2], straight[2])
    half_turn = np.diag([1.0, -1.0, -1.0])
    turned = read_transformed(volume, (10, 6, 9), PATCH, half_turn)
    assert np.allclose(turned[0], straight[0][:, ::-1, ::-1], atol=1e-5)
    assert np.array_equal(turned[1], straight[1][:, ::-1, ::-1])


def test_about_a_third_of_samples_are_turned_or_scaled() -> None:
    rng = np.random.default_rng(6)
    matrices = [draw_matrix(rng) for _ in range(2000)]
    found = [matrix for matrix in matrices if matrix is not None]
    assert len(found) / 2000 == pytest.approx(1 - 0.8 * 0.8, abs=0.04)
    sizes = [float(np.linalg.det(matrix)) ** (1 / 3) for matrix in found]
    assert min(sizes) >= 0.7 - 1e-9
    assert max(sizes) <= 1.4 + 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": (16, 16, 16)}, r"--block: \(16, 16, 16\) is not the total stride of a stage; expected one of \["),
        ({"importance": "bright"}, "--importance: bright is unknown"),
        ({"hidden_share": 1.0}, r"hidden_share: 1\.0 is not between 0 and 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingRefused, match=message):
        build(replace(OPTIONS, **change), plan(), use_masks=True)


def test_it_learns_in_bfloat16() -> None:
    made = method()
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.loss(made.module.train(), batch(made), Moment(99, 100), step_rng(1, 0)).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert 0.5 < float(loss.detach()) < 2
    assert all(bool(p.grad.isfinite().all()) for p in made.module.parameters() if p.grad is not None)
