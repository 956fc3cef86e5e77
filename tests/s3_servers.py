"""Servers of objects for tests: SeaweedFS, which keeps them on disk and checks what it is sent, and moto in its place.

SeaweedFS is a process that can be killed and started again over the same folder; moto is a thread of the tests, keeps
objects in memory, and believes every signature and checksum.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from dicom_node.store import S3Place
from tests.peer_servers import free_port, missing

ACCESS_KEY, SECRET_KEY = "test-key", "test-secret"
BUCKET = "archive"
READY_TIMEOUT_S = 60.0
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


@dataclass
class S3Server:
    """A server with the bucket `BUCKET`."""

    url: str

    def place(self, **options: Any) -> S3Place:
        """Return a place in the bucket that nobody else uses."""
        return S3Place.from_url(f"s3://{BUCKET}/test-{uuid4().hex[:12]}", endpoint_url=self.url, **options)


@dataclass
class SeaweedServer(S3Server):
    """SeaweedFS over a folder; all its parts are one process."""

    folder: Path
    ports: list[int]
    address: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it and wait until it takes objects."""
        master, volume, filer, s3, *grpc = self.ports
        arguments = [
            _weed(), "server", f"-dir={self.folder / 'data'}", f"-ip={self.address}", f"-ip.bind={self.address}",
            f"-master.port={master}", f"-master.port.grpc={grpc[0]}", "-master.volumeSizeLimitMB=64",
            f"-volume.port={volume}", f"-volume.port.grpc={grpc[1]}", "-volume.max=20",
            "-filer", f"-filer.port={filer}", f"-filer.port.grpc={grpc[2]}",
            "-s3", f"-s3.port={s3}", f"-s3.port.grpc={grpc[3]}", f"-s3.config={self.folder / 's3.json'}",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=self.folder)
        self._wait_until_ready()

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Let it answer nothing any more."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        client = new_client(self.url)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _takes_objects(client):
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.2)


def _takes_objects(client: Any) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
    except (BotoCoreError, ClientError):
        return False
    return True


@contextmanager
def start_seaweedfs(address: str = "127.0.0.1") -> Iterator[SeaweedServer]:
    """A new, empty server that listens at an address of this host; gone when the block ends."""
    _weed()
    with TemporaryDirectory(prefix="seaweedfs-") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        who = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
        node = {"name": "node", "credentials": [who], "actions": ["Admin", "Read", "Write", "List"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [node]}))
        ports = [free_port() for _ in range(8)]
        server = SeaweedServer(f"http://{address}:{ports[3]}", folder, ports, address)
        server.start()
        try:
            yield server
        finally:
            server.resume()
            server.kill()


@contextmanager
def start_moto() -> Iterator[S3Server]:
    """A stand-in within this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=free_port(), verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    new_client(url).create_bucket(Bucket=BUCKET)
    try:
        yield S3Server(url)
    finally:
        server.stop()


def new_client(url: str) -> Any:
    """A client of the tests' own."""
    import botocore.session
    from botocore.config import Config

    return botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, s3={"addressing_style": "path"}),
    )


def _weed() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = shutil.which("weed") or (str(beside) if beside.exists() else None)
    if found is None:
        missing("SeaweedFS is not installed (make peers-s3)")
    return found
