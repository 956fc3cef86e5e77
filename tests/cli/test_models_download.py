"""Taking in a model from an address: a real web server, whole files only, and nothing left behind."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import Result

from dicom_node.peers.download import download, name_of_url
from dicom_node.peers.errors import DownloadFailedError, DownloadRefusedError
from tests.tiny_models import write_tiny_model

Run = Callable[..., Result]


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder; ``/cut`` promises more than it sends, ``/elsewhere`` leads to an address without TLS."""

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://example.org/export.zip")
            self.end_headers()
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
        elif self.path == "/busy":
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which its files are."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(timeout=60)
    server.server_close()


def zipped_export(folder: Path, tmp_path: Path) -> Path:
    """A plain nnU-Net export as people publish it."""
    export = write_tiny_model(tmp_path / "export", "foreground", above=0.0, with_yaml=False)
    archive = folder / "body.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for path in export.rglob("*"):
            bundle.write(path, path.relative_to(tmp_path))
    return archive


def test_a_published_zip_becomes_a_model(
    run: Run, served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    digest = hashlib.sha256(zipped_export(folder, tmp_path).read_bytes()).hexdigest()
    monkeypatch.chdir(tmp_path)

    result = run("models", "add", "foreground", f"{address}/body.zip?download=1", "--sha256", digest.upper())

    assert result.exit_code == 0, result.stderr
    assert digest in result.stdout
    assert run("models", "verify", tmp_path / "models" / "body").exit_code == 0


def test_another_digest_is_refused_and_leaves_nothing(run: Run, served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    zipped_export(folder, tmp_path)

    result = run("models", "add", "foreground", f"{address}/body.zip", "--sha256", "0" * 64, "--to", tmp_path / "new")

    assert result.exit_code == 2
    assert "expected 0000" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("/none.zip", DownloadRefusedError, "404"),
        ("/busy", DownloadFailedError, "503"),
        ("/cut", DownloadFailedError, "try again"),
        ("/elsewhere", DownloadRefusedError, "not encrypted"),
        ("/large", DownloadRefusedError, "larger than 100 bytes"),
    ],
)
def test_what_does_not_come_whole_is_not_kept(
    path: str, error: type[Exception], reason: str, served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = served
    (folder / "large").write_bytes(bytes(101))
    with pytest.raises(error, match=reason):
        download(address + path, tmp_path / "target", max_bytes=100)
    assert not list(tmp_path.glob("target*"))


def test_an_address_that_is_none_or_answers_nobody_is_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailedError, match=r"127\.0\.0\.1:9"):
        download("http://127.0.0.1:9/export.zip", tmp_path / "target", max_bytes=100)
    with pytest.raises(DownloadRefusedError, match=r"^ftp://.* is not an address"):
        download("ftp://127.0.0.1/export.zip", tmp_path / "target", max_bytes=100)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/models/body.zip?download=1", "body.zip"),
        ("https://example.org", "download"),
        ("https://example.org/models/..", "download"),
    ],
)
def test_a_download_is_called_by_a_name_that_a_file_can_have(url: str, name: str) -> None:
    assert name_of_url(url) == name
