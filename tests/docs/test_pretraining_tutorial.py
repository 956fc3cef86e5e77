"""The commands of docs/pretraining-tutorial.md, run as they are printed, with shorter numbers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "pretraining-tutorial.md"
TIMEOUT_S = 1100
SHORTER = {
    "demo-heads -o .": "demo-heads -o . --number 2",
    "--steps 200": "--steps 4",
    "-tr nnUNetTrainer_1epoch": "-tr ShortTrainer",
}
# One epoch of two steps, and no inference on the whole head at the end.
TRAINER = """
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class ShortTrainer(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1

    def perform_actual_validation(self, save_probabilities=False):
        pass
"""

# nnU-Net's search for a trainer imports torchvision, whose build for CUDA cannot load its operators next to a torch
# without CUDA, as on some machines of tests. Nothing here uses them; that they are known is enough.
SITE = """
import sys
if any(one.endswith("nnUNetv2_train") for one in sys.orig_argv):
    import importlib.metadata, torch
    if torch.version.cuda is None and "+cpu" not in importlib.metadata.version("torchvision"):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def commands() -> list[str]:
    """Return the blocks of commands after the installation, in their order, with shorter numbers."""
    text = TUTORIAL.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1:]
    for long, short in SHORTER.items():
        assert any(long in block for block in blocks), long
        blocks = [block.replace(long, short) for block in blocks]
    return blocks


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 60)
def test_a_newcomer_gets_from_a_folder_to_a_fine_tuned_network(tmp_path: Path) -> None:
    pytest.importorskip("nnunetv2")
    trainers, work = tmp_path / "trainers", tmp_path / "work"
    trainers.mkdir()
    work.mkdir()
    (trainers / "short_trainer.py").write_text(TRAINER)
    (trainers / "sitecustomize.py").write_text(SITE)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{trainers}",
        "nnUNet_extTrainer": str(trainers),
        "nnUNet_n_proc_DA": "1",
        "nnUNet_compile": "f",
        "OMP_NUM_THREADS": "1",
    }
    script = "set -eu\n" + "\n".join(commands())

    walked = subprocess.run(
        ["bash", "-c", script],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert walked.returncode == 0, f"{walked.stdout[-3000:]}\n{walked.stderr[-3000:]}"
    volumes = json.loads((work / "heads" / "manifest.json").read_text())["volumes"]
    assert [one["verdict"] for one in sorted(volumes, key=lambda one: one["result"])] == ["face_present", "defaced"]
    assert (work / "run" / "card.md").is_file()
    # nnU-Net took the weights over, and the printed commands are those of the tutorial.
    assert "Loading pretrained weights from file" in walked.stdout
    printed = (work / "run" / "card.md").read_text()
    assert "nnUNetv2_move_plans_between_datasets" in printed
    assert "-p pretrainedPlans -pretrained_weights" in printed
    assert list((work / "nnUNet_results").rglob("checkpoint_final.pth"))


def test_every_page_that_the_tutorial_names_is_there() -> None:
    for page in (TUTORIAL, ROOT / "docs" / "masks.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), target
