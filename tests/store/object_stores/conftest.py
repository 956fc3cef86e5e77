"""A store over each kind of objects: a folder, moto, and SeaweedFS, which is a real server with its own disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.store import Store
from dicom_node.store.integrity import N_FOLDERS, Finding, Pace, Tally
from dicom_node.store.objects.s3.objects import S3Objects
from dicom_node.store.objects.s3.place import S3Place
from tests.new_store import NewStore
from tests.s3_servers import CREDENTIALS, S3Server, SeaweedServer, start_moto, start_seaweedfs

OpenStore = Callable[..., AbstractContextManager[Store]]


@pytest.fixture(scope="session", autouse=True)
def _credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedServer]:
    with start_seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with start_moto() as server:
        yield server


@pytest.fixture(params=["local", "moto", pytest.param("seaweedfs", marks=pytest.mark.peers)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest) -> S3Place | None:
    return None if kind == "local" else request.getfixturevalue(kind).place()


@pytest.fixture
def open_store(new_store: NewStore, tmp_path: Path) -> OpenStore:
    """Function that opens a store; the same one each time for the same name."""

    @contextmanager
    def open_it(place: S3Place | None, *, name: str = "node", **options: Any) -> Iterator[Store]:
        folder = tmp_path / name
        if not folder.exists():
            new_store(folder).close()
        with Store.open(folder, objects_at=place, **options) as store:
            yield store

    return open_it


@pytest.fixture
def store(place: S3Place | None, open_store: OpenStore) -> Iterator[Store]:
    with open_store(place) as opened:
        yield opened


@pytest.fixture
def s3_store(moto: S3Server, open_store: OpenStore) -> Iterator[Store]:
    """Over moto, for what a bucket alone has."""
    with open_store(moto.place()) as opened:
        yield opened


def damage(store: Store, digest: str, change: Callable[[bytes], bytes]) -> None:
    """Change the bytes of an object as they are stored."""
    objects = store.objects
    with objects.open_stored(digest) as stored:
        changed = change(stored.read(10**9))
    put(store, digest, changed)


def put(store: Store, digest: str, encoded: bytes) -> None:
    """Store bytes under a name, right or wrong."""
    objects = store.objects
    if isinstance(objects, S3Objects):
        key = objects.location(digest).removeprefix(f"s3://{objects.bucket.place.bucket}/")
        with objects.bucket._asking() as client:
            client.put_object(Bucket=objects.bucket.place.bucket, Key=key, Body=encoded)
    else:
        Path(objects.location(digest)).write_bytes(encoded)


def lose(store: Store, digest: str) -> None:
    """Delete an object behind the store's back."""
    objects = store.objects
    if isinstance(objects, S3Objects):
        objects.bucket.remove(f"objects/{digest[:2]}/{digest}.dcm")
    else:
        Path(objects.location(digest)).unlink()


def forget_copies(store: Store) -> None:
    """Let the next reader go to the bucket."""
    if isinstance(store.objects, S3Objects):
        store.objects.cache.clear()


def verify(store: Store) -> list[Finding]:
    """Compare all folders that have objects, or should have; to list each of the others takes a server a while."""
    objects = store.objects
    folders = {int(digest[:2], 16) for digest in store.integrity._expected("00", "g")}
    if isinstance(objects, S3Objects):
        folders |= {int(found.key.split("/")[1], 16) for found in objects.bucket.listed("objects/")}
    else:
        folders = set(range(N_FOLDERS))
    return [finding for n in sorted(folders) for finding in store.integrity.verify_folder(n, Pace(), Tally())]
