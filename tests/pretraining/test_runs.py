"""A run ends as it would have without being killed, and says what is in its way."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
import torch

from pretraining.checkpoint_state import LATEST, load_state
from pretraining.errors import (
    DatasetRefused,
    DiskFullError,
    LossNotFiniteError,
    MemoryShortError,
    RunRefused,
    SampleFailedError,
    SettingRefused,
    StoppedError,
    WorkerKilledError,
)
from pretraining.stopping import StopSignals
from pretraining.volume_fusion import VolumeFusion
from pretraining.volume_fusion.sampling import GridSampler
from tests.pretraining.runs import final_weights, request, run, same
from tests.pretraining.volumes import write_dataset

ROOT = Path(__file__).resolve().parents[2]
KILL_AT = 5
KILLED = f"""
import os, signal, sys
from pathlib import Path
import torch
from pretraining.stopping import StopSignals
from tests.pretraining.runs import run

torch.set_num_threads(1)
calls = []
def kill(self):
    calls.append(1)
    if len(calls) == {KILL_AT}:
        os.kill(os.getpid(), signal.SIGKILL)
    return False
StopSignals.is_stopped = kill
run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("pretraining"), 2)


@pytest.fixture(scope="module")
def unbroken(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "unbroken"
    run(dataset, folder)
    return folder


def stop_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """A signal comes during this step."""
    calls: list[int] = []

    def is_stopped(_: StopSignals) -> bool:
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return len(calls) >= step

    patch.setattr(StopSignals, "is_stopped", is_stopped)


def test_a_killed_run_ends_as_an_unbroken_one(dataset: Path, unbroken: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    killed = subprocess.run([sys.executable, "-c", KILLED, dataset, broken], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    state = load_state(broken)
    assert state is not None
    assert state["step"] == KILL_AT - 1
    told = run(dataset, broken)
    assert "resumed" in told[0]
    assert same(final_weights(unbroken), final_weights(broken))
    first, second = (load_state(folder) for folder in (unbroken, broken))
    assert first is not None
    assert second is not None
    assert same(first["module"], second["module"])


def test_another_seed_gives_another_run(dataset: Path, unbroken: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "run", seed=1)
    assert not same(final_weights(unbroken), final_weights(tmp_path / "run"))


def test_loader_processes_change_nothing(dataset: Path, unbroken: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "run", workers=1)
    assert same(final_weights(unbroken), final_weights(tmp_path / "run"))


@pytest.mark.parametrize("method", ["volume-fusion", "anatomask"])
def test_a_signal_saves_the_run_and_the_same_request_ends_it(
    dataset: Path, unbroken: Path, tmp_path: Path, method: str
) -> None:
    folder = tmp_path / "run"
    if method == "anatomask":
        unbroken = tmp_path / "unbroken"
        run(dataset, unbroken, method=method)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(StoppedError, match="stopped after 3 of 8 steps"):
            run(dataset, folder, method=method, checkpoint_s=1e9)
    state = load_state(folder)
    assert state is not None
    assert state["step"] == 3
    run(dataset, folder, method=method, checkpoint_s=1e9)
    assert same(final_weights(unbroken), final_weights(folder))
    first, second = (load_state(place) for place in (unbroken, folder))
    assert first is not None
    assert second is not None
    assert same(first["module"], second["module"])
    assert same(first["method"].get("teacher", {}), second["method"].get("teacher", {}))


def test_the_folder_holds_what_users_need(dataset: Path, unbroken: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert names == {
        *("checkpoint_final.pth", LATEST, "plans.json", "dataset.json", "config.yaml", "card.md"),
        *("log.csv", "volumes.json", "pictures", "tensorboard"),
    }
    with (unbroken / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["8"]
    assert float(rows[0]["loss"]) > 0
    listed = json.loads((unbroken / "volumes.json").read_bytes())
    assert [one["id"] for one in listed["volumes"]] == ["v0", "v1"]
    assert len({one["sha256"] for one in listed["volumes"]}) == 2
    assert json.loads((unbroken / "plans.json").read_bytes())["plans_name"] == "pretrainedPlans"
    card = (unbroken / "card.md").read_text()
    assert "-pretrained_weights" in card
    assert "# Volume Fusion, 8 steps" in card


def test_it_says_what_it_will_do(dataset: Path, tmp_path: Path) -> None:
    told = run(dataset, tmp_path / "run", n_steps=1)
    assert told[0] == f"Volume Fusion with masks, 1 steps: {tmp_path / 'run'}"
    assert told[1].startswith("2 volumes; patches of 16 x 16 x 16 voxels hold ")
    assert told[1].endswith("of body and altered area are altered")


def test_hours_become_steps_by_measured_speed(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pretraining.loop.MEASURED_S", 0.0)
    monkeypatch.setattr("pretraining.loop.WARM_UP_STEPS", 1)
    folder = tmp_path / "run"
    run(dataset, folder, n_steps=None, hours=0.0001)  # a third of a second
    state = load_state(folder)
    assert state is not None
    assert state["step"] == state["n_steps"] >= 1
    said = capsys.readouterr().err
    assert f"{state['n_steps']} steps of " in said
    assert "GiB memory" in said
    # What was done to measure is taken back: as many steps from the start give the same weights.
    run(dataset, tmp_path / "again", n_steps=state["n_steps"])
    assert same(final_weights(folder), final_weights(tmp_path / "again"))


def test_another_request_in_the_same_folder_is_refused_with_the_difference(dataset: Path, unbroken: Path) -> None:
    with pytest.raises(RunRefused, match=r"seed: 0 in it, 3 now\); use these, or a new folder"):
        run(dataset, unbroken, seed=3)
    with pytest.raises(RunRefused, match=r"masks: True in it, False now"):
        run(dataset, unbroken, use_masks=False)
    with pytest.raises(RunRefused, match=r"options.learning_rate: 0.001 in it, 0.01 now"):
        run(dataset, unbroken, options={"learning_rate": 0.01})


def test_a_folder_with_other_files_is_refused(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunRefused, match="holds no run"):
        run(dataset, tmp_path)


def test_a_damaged_state_is_named(dataset: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "run", n_steps=1)
    path = tmp_path / "run" / LATEST
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunRefused, match="cannot be read"):
        run(dataset, tmp_path / "run", n_steps=1)


def test_a_full_disk_leaves_the_last_state(dataset: Path, unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(StoppedError):
            run(dataset, folder)
    (folder / f"{LATEST}.part").symlink_to("/dev/full")  # as a disk that is full
    with pytest.raises(DiskFullError, match="no space left on the disk; free some"):
        run(dataset, folder)
    state = load_state(folder)
    assert state is not None
    assert state["step"] == 2
    run(dataset, folder)
    assert same(final_weights(unbroken), final_weights(folder))


def test_a_killed_loader_process_is_named_and_the_last_state_stays(
    dataset: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(StoppedError):
            run(dataset, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GridSampler, "__call__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(WorkerKilledError, match="a loader process was killed"):
            run(dataset, folder, workers=1)
    run(dataset, folder)
    assert same(final_weights(unbroken), final_weights(folder))


def test_a_volume_that_cannot_be_read_any_more_is_named(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", 1)
    run(dataset, tmp_path / "run", n_steps=1)
    (image,) = (dataset / "prepared").glob("*/v0/image.b2nd")
    image.write_bytes(b"rotten")
    with pytest.raises(SampleFailedError, match="volume v0: "):
        run(dataset, tmp_path / "second", n_steps=1, workers=1)


def test_a_loss_that_is_no_number_ends_the_run_and_is_not_saved(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LossNotFiniteError, match="--learning-rate"):
        run(dataset, tmp_path / "run", options={"learning_rate": 1e30})
    state = load_state(tmp_path / "run")
    assert state is not None
    assert all(bool(tensor.isfinite().all()) for tensor in state["module"].values())


def test_too_little_memory_is_named(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VolumeFusion, "loss", lambda *_: torch.empty(10**15))
    with pytest.raises(
        MemoryShortError, match="this machine has too little memory for such steps; use a smaller --batch"
    ):
        run(dataset, tmp_path / "run")


def test_a_dataset_without_masks_trains_only_when_asked(dataset: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    nib.save(nib.load(dataset / "volumes/v0/image.nii.gz"), images / "a.nii.gz")
    plans = dataset / "plans.json"
    with pytest.raises(DatasetRefused, match="no masks"):
        run(images, tmp_path / "run", plans=plans)
    told = run(images, tmp_path / "run", plans=plans, use_masks=False, n_steps=2)
    assert "without masks" in told[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hours": 1.0}, "--hours: cannot be used together with --steps"),
        ({"patch_size": (15, 16, 16)}, "--patch: sides must be multiples of 4 x 4 x 4"),
        ({"n_devices": 3}, "--batch: 2 cannot be divided among 3 processes"),
        ({"options": {"variant": "boxes"}, "batch_size": 1}, "--variant boxes: .*--batch 2"),
    ],
)
def test_settings_that_cannot_work_are_refused(dataset: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(SettingRefused, match=message):
        run(dataset, tmp_path / "run", **changes)


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_batch(dataset: Path, tmp_path: Path) -> None:
    for n_devices in (1, 2):
        run(dataset, tmp_path / str(n_devices), n_devices=n_devices, n_steps=3)
    first, second = (final_weights(tmp_path / name) for name in ("1", "2"))
    assert first.keys() == second.keys()
    for key in first:
        if not key.endswith(
            ("conv.bias", "all_modules.0.bias")
        ):  # normalised away at once: their gradient is rounding alone
            assert torch.allclose(first[key], second[key], atol=2e-5), key


def test_requests_name_one_network(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingRefused, match="--preset"):
        request(dataset, tmp_path, preset="small")
