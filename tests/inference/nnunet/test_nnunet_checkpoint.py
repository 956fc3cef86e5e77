"""Checkpoints are read as data: what they ask to run is refused, what nnU-Net really writes is accepted."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.nnunet.checkpoint import read_checkpoint
from inference.nnunet.errors import CheckpointError, ModelFileMissingError, UnsafeCheckpointError
from inference.nnunet.trained_model import load_trained_model
from tests.tiny_models import build_network, checkpoint_of, tiny_plans, write_tiny_model

CPU = torch.device("cpu")


class TouchesFile:
    """Pickles to a call that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def saved(folder: Path, content: object) -> Path:
    path = folder / "checkpoint_final.pth"
    torch.save(content, path)
    return path


def checkpoint(**changes: object) -> dict[str, Any]:
    return checkpoint_of(build_network(tiny_plans(), 1, 2)) | changes


def test_the_hostile_checkpoint_would_run_if_it_were_unpickled_plainly(tmp_path: Path) -> None:
    victim = tmp_path / "touched"
    path = saved(tmp_path, checkpoint(logging=TouchesFile(victim)))
    torch.load(path, weights_only=False)
    assert victim.exists()


@pytest.mark.parametrize("key", ["network_weights", "logging", "init_args", "optimizer_state"])
def test_code_in_a_checkpoint_is_refused_and_not_run(key: str, tmp_path: Path) -> None:
    victim = tmp_path / "touched"
    path = saved(tmp_path, checkpoint(**{key: TouchesFile(victim)}))
    with pytest.raises(UnsafeCheckpointError, match="nothing was run"):
        read_checkpoint(path)
    assert not victim.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    victim = tmp_path / "touched"
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(pickle.dumps(TouchesFile(victim), protocol=2))
    with pytest.raises((UnsafeCheckpointError, CheckpointError)):
        read_checkpoint(path)
    assert not victim.exists()


def test_the_scalars_of_older_numpy_are_accepted(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint(logging={"ema_fg_dice": [np.float64(0.5)]}))
    renamed = tmp_path / "older.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(renamed, "w", zipfile.ZIP_STORED) as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            new.writestr(member.filename, content)
    assert read_checkpoint(renamed).configuration == "3d_fullres"


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(b"not weights")
    with pytest.raises((CheckpointError, UnsafeCheckpointError), match=r"checkpoint_final\.pth"):
        read_checkpoint(path)
    with pytest.raises(ModelFileMissingError, match=r"elsewhere\.pth"):
        read_checkpoint(tmp_path / "elsewhere.pth")


def test_a_checkpoint_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="network_weights"):
        read_checkpoint(saved(tmp_path, {"state_dict": {}}))
    with pytest.raises(CheckpointError, match="configuration"):
        read_checkpoint(saved(tmp_path, checkpoint(init_args={})))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_prefixes_of_compiled_and_parallel_training_are_stripped(prefix: str, tmp_path: Path) -> None:
    plain = build_network(tiny_plans(), 1, 2)
    found = read_checkpoint(saved(tmp_path, checkpoint_of(plain, prefix=prefix)))
    assert set(found.weights) == set(plain.state_dict())


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    found = read_checkpoint(saved(tmp_path, checkpoint_of(build_network(tiny_plans(), 1, 2), dtype=torch.float16)))
    assert {value.dtype for value in found.weights.values()} == {torch.float32}


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, "foreground")
    other = build_network(tiny_plans(features=(4, 8)), 1, 2)
    torch.save(checkpoint_of(other), folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_trained_model(folder, device=CPU)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, "foreground")
    broken = build_network(tiny_plans(), 1, 2)
    next(broken.parameters()).data.fill_(float("nan"))
    torch.save(checkpoint_of(broken), folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(CheckpointError, match="not finite"):
        load_trained_model(folder, device=CPU)


def test_the_allow_list_does_not_outlive_the_reading(tmp_path: Path) -> None:
    read_checkpoint(saved(tmp_path, checkpoint()))
    assert np.dtype not in torch.serialization.get_safe_globals()
