"""What processes without a model carry in their memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_scheduler_carries_no_network_in_its_memory() -> None:
    code = (
        "import sys, dicom_node.app, dicom_node.pipeline.schedule, dicom_node.pipeline_digest, inference.models\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_commands_that_need_the_digest_of_the_pipeline_load_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, dicom_node.pipeline_digest, inference.models\n"
        "sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_the_web_server_loads_no_torch() -> None:
    code = "import sys, dicom_node.page.routes, dicom_node.dicomweb.server\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
