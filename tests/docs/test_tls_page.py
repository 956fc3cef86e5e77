"""What docs/tls.md tells an administrator to type makes certificates that the node uses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from dicom_node.certificates import Certificates
from dicom_node.dimse.tls import listening_files
from dicom_node.settings import load_settings
from dicom_node.upper_layer.tls.contexts import acceptor_context

PAGE = Path(__file__).parents[2] / "docs" / "tls.md"


def test_the_commands_and_the_settings_of_the_page_fit_together(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (commands,) = [block for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) if block.startswith("openssl")]
    settings, *_ = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    folder = tmp_path / "tls"
    folder.mkdir()
    subprocess.run(["sh", "-e"], input=commands, cwd=folder, text=True, check=True, capture_output=True, timeout=60)
    path = tmp_path / "node.yaml"
    path.write_text(settings)
    loaded = load_settings(path, {})
    acceptor_context(listening_files(loaded.dimse.tls), require_certificate=True)
    subjects = [each.subject for each in Certificates(loaded).facts()]
    assert subjects == ["CN=node.example.org", "CN=Imaging CA"]
