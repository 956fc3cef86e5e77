"""What ``make peers-viewer`` installs: OHIF's built site, and the modules that the scripts of this folder load."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("DICOM_NODE_TEST_VIEWER", HERE.parents[1] / "build" / "viewer"))


def ohif_site() -> Path:
    """Folder of OHIF's built site; the test is skipped where it or Chromium is missing."""
    if shutil.which("chromium") is None:
        pytest.skip("Chromium is not installed; as root: make peers-viewer")
    sites = sorted(FOLDER.glob("ohif-*/index.html"))
    if not sites:
        pytest.skip(f"no OHIF in {FOLDER}: make peers-viewer")
    return sites[-1].parent


def run_script(name: str, *arguments: object, timeout_s: float) -> str:
    """Run a script of this folder in Node.js and return its output; the test is skipped where that cannot be done."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    if not (FOLDER / "node_modules" / ".package-lock.json").is_file():
        pytest.skip(f"no modules for Node.js in {FOLDER}: make peers-viewer")
    command = [node, str(HERE / name), str(FOLDER), *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert answer.returncode == 0, answer.stderr[-4000:]
    return answer.stdout
