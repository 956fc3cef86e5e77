"""An Orthanc that has labels (1.12), from a folder that holds a Debian 13: ``tests/install_labelled_orthanc.sh``.

Debian 12 has Orthanc 1.10.1, without labels. Where the folder is missing, the tests that need labels are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.peer_servers import PORT_ATTEMPTS, OrthancServer, _orthanc_answers, _spawn, _stop, _wait_until, free_port

ROOT = Path(os.environ.get("DICOM_NODE_TEST_DEBIAN13", Path.home() / ".cache" / "dicom-node-tests" / "debian13"))


def needs_labelled_orthanc() -> None:
    """Skip the test where such an Orthanc cannot be started."""
    if not (ROOT / "usr" / "sbin" / "Orthanc").is_file():
        pytest.skip(f"no Orthanc with labels in {ROOT}; as root: tests/install_labelled_orthanc.sh {ROOT}")
    if os.geteuid() != 0:
        pytest.skip(f"only root may start the Orthanc in {ROOT} (chroot)")


@contextmanager
def start_labelled_orthanc(folder: Path, settings: Mapping[str, Any] | None = None) -> Iterator[OrthancServer]:
    """Orthanc 1.12 on loopback and free ports; its storage is in ``folder`` of the Debian and deleted at the end."""
    needs_labelled_orthanc()
    inside = Path(tempfile.mkdtemp(prefix="orthanc-", dir=ROOT / "tmp"))
    seen = f"/tmp/{inside.name}"
    log = folder / "orthanc-1.12.log"
    try:
        for _ in range(PORT_ATTEMPTS):
            port, http_port = free_port(), free_port()
            configuration = {
                "Name": f"orthanc-{http_port}", "StorageDirectory": seen, "IndexDirectory": seen,
                "DicomPort": port, "HttpPort": http_port, "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False, **(settings or {}),
            }  # fmt: skip
            (inside / "orthanc.json").write_text(json.dumps(configuration))
            url = f"http://127.0.0.1:{http_port}"
            process = _spawn(["chroot", str(ROOT), "Orthanc", f"{seen}/orthanc.json"], log, {})
            try:
                if not _wait_until(partial(_orthanc_answers, url, str(configuration["Name"])), process):
                    continue
                yield OrthancServer("ORTHANC", port, url, f"{url}/dicom-web", inside, process, log)
                return
            finally:
                _stop(process)
        raise RuntimeError(f"Orthanc did not start; see {log}")
    finally:
        shutil.rmtree(inside, ignore_errors=True)
