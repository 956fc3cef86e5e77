"""Objects move between a folder and a real bucket, whole, and continue after an interruption."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.store import DataDirInUseError, Kept, ObjectsUnavailableError, S3Place, Store
from dicom_node.store.errors import MoveTargetError, ObjectsChangedError, UnfinishedMoveError
from dicom_node.store.integrity import Fault
from dicom_node.store.moving import sqlite_index
from dicom_node.store.moving_objects import ObjectsMoved, move_objects
from dicom_node.store.objects.s3.bucket import Bucket
from dicom_node.store.objects.s3.removals import note_removals
from tests.new_store import NewStore
from tests.s3_servers import S3Server, SeaweedServer
from tests.store.object_stores.conftest import OpenStore, damage, lose, put, verify
from tests.store.sending import instance, keep

N_INSTANCES = 40
ONLY_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
pytestmark = [pytest.mark.slow, ONLY_SQLITE]


class StoppedError(Exception):
    """In the place of whatever ends a process."""


def after(n_folders: int) -> Callable[[int, ObjectsMoved], None]:
    """A report that stops the move."""

    def report(n_done: int, _moved: ObjectsMoved) -> None:
        if n_done >= n_folders:
            raise StoppedError

    return report


@pytest.fixture
def node(tmp_path: Path, new_store: NewStore) -> Path:
    """Data directory of a node with instances, one of them with a second content under its UID."""
    folder = tmp_path / "node"
    with new_store(folder) as store:
        for number in range(N_INSTANCES):
            keep(store, instance(number, n_pixel_bytes=512 + number))
        assert keep(store, instance(0, PatientName="Other^Person")) is Kept.CONFLICT
    return folder


def move(node: Path, source: Path | S3Place, target: Path | S3Place, **options: object) -> ObjectsMoved:
    return move_objects(node, sqlite_index(node), source, target, **options)  # type: ignore[arg-type]


def files(node: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (node / "objects").rglob("*.dcm")}


def digest_of(store: Store, number: int) -> str:
    return store.search.find_instances(sop_instance_uid=instance(number).uid)[0].digest


@pytest.fixture(params=["moto", pytest.param("seaweedfs", marks=pytest.mark.peers)])
def bucket(request: pytest.FixtureRequest) -> S3Place:
    place: S3Place = request.getfixturevalue(request.param).place()
    return place


def test_objects_move_to_a_bucket_and_back_byte_for_byte(node: Path, bucket: S3Place, open_store: OpenStore) -> None:
    before = files(node)
    moved = move(node, node, bucket)
    assert (moved.n_objects, moved.n_copied, moved.not_copied) == (N_INSTANCES + 1, N_INSTANCES + 1, [])
    assert files(node) == before
    with open_store(bucket) as store:
        assert verify(store) == []
        assert keep(store, instance(N_INSTANCES)) is Kept.STORED
    with pytest.raises(MoveTargetError, match="holds objects already; name an empty prefix"):
        move(node, bucket, node)
    (node / "objects").rename(node / "objects.old")
    assert list((node / "cache").rglob("*.dcm"))
    assert move(node, bucket, node).n_copied == N_INSTANCES + 2
    assert list((node / "cache").rglob("*.dcm")) == []  # nobody would delete them when their study is deleted
    with open_store(None) as store:
        assert verify(store) == []
    assert before.items() <= files(node).items()


def test_a_move_that_continues_replaces_what_was_cut_off_since(
    node: Path, moto: S3Server, open_store: OpenStore
) -> None:
    place = moto.place()
    with pytest.raises(StoppedError):
        move(node, node, place, report=after(256))
    digest = min(path.stem for path in (node / "objects").rglob("*.dcm"))
    bucket = Bucket(place)
    with bucket._asking() as client:
        client.put_object(**bucket._key(f"objects/{digest[:2]}/{digest}.dcm"), Body=b"")
    moved = move(node, node, place)
    assert (moved.n_objects, moved.n_copied) == (N_INSTANCES + 1, 1)
    with open_store(place) as store:
        assert verify(store) == []


@pytest.mark.peers
@pytest.mark.parametrize("n_folders", [1, 100, 256])
def test_an_interrupted_move_continues_and_nobody_uses_what_is_unfinished(
    node: Path, seaweedfs: SeaweedServer, open_store: OpenStore, n_folders: int
) -> None:
    place = seaweedfs.place()
    with open_store(None):
        pass  # the last instances are no longer marked as such whose bytes are to be looked at
    with pytest.raises(StoppedError):
        move(node, node, place, report=after(n_folders))
    with open_store(place) as store:
        with pytest.raises(ObjectsUnavailableError, match="type `store migrate` again"):
            keep(store, instance(N_INSTANCES))
        with pytest.raises(ObjectsUnavailableError, match="type `store migrate` again"):
            Store.ask_objects(place)
        missing = [digest for digest in store.integrity._expected("00", "g") if not store.objects.exists(digest)]
        assert bool(missing) is (n_folders < 256)
        for digest in missing[:1]:
            with pytest.raises(ObjectsUnavailableError, match="type `store migrate` again"):
                store.objects.open(digest)
    moved = move(node, node, place)
    assert moved.n_copied == len(missing)
    assert moved.n_objects == N_INSTANCES + 1
    with open_store(place) as store:
        assert verify(store) == []


def test_a_start_over_an_unfinished_move_takes_no_row_back(node: Path, moto: S3Server, open_store: OpenStore) -> None:
    """The last instances of a node are looked at when it starts, and rows without bytes are taken back."""
    place = moto.place()
    with pytest.raises(StoppedError):
        move(node, node, place, report=after(1))
    with pytest.raises(ObjectsUnavailableError, match="type `store migrate` again"), open_store(place):
        pass
    assert move(node, node, place).n_objects == N_INSTANCES + 1


def test_an_unfinished_move_to_a_folder_is_not_opened(node: Path, moto: S3Server, open_store: OpenStore) -> None:
    place = moto.place()
    move(node, node, place)
    (node / "objects").rename(node / "objects.old")
    with pytest.raises(StoppedError):
        move(node, place, node, report=after(100))
    with pytest.raises(UnfinishedMoveError, match=r"the move of objects to it is not finished"), open_store(None):
        pass
    with pytest.raises(MoveTargetError, match="is where objects are being moved to from s3://archive/"):
        move(node, moto.place(), node)
    move(node, place, node)
    with open_store(None) as store:
        assert verify(store) == []


@pytest.mark.peers
def test_a_move_that_is_killed_again_and_again_ends_whole(
    node: Path, seaweedfs: SeaweedServer, tmp_path: Path, open_store: OpenStore
) -> None:
    place = seaweedfs.place()
    config = tmp_path / "node.yaml"
    config.write_text(f"node: {{data_dir: {node}}}\nobjects: {{endpoint_url: '{seaweedfs.url}'}}\n")
    moments = (
        "moving_objects:_Move._copy:before:9",
        "moving_objects:_Move._note:before:12",
        "moving_objects:_Move._settle:after:5",
        "integrity:Integrity.n_named:before:1",
    )
    before = files(node)
    for moment in (*moments, None):
        done = run(config, place.url, moment)
        assert done.returncode == (0 if moment is None else -signal.SIGKILL), done.stderr
    assert f"{N_INSTANCES + 1} objects are alike on both sides" in done.stdout
    assert f"set node.objects_url to {place.url}, then start" in done.stdout
    assert files(node) == before
    with open_store(place) as store:
        assert verify(store) == []

    (node / "objects").rename(node / "objects.old")
    config.write_text(config.read_text().replace("}", f", objects_url: '{place.url}'}}", 1))
    for moment in (
        "moving_objects:_Move._copy:before:9",
        "moving_objects:_Move._note:before:12",
        "integrity:Integrity.n_named:before:1",
        None,
    ):
        done = run(config, str(node), moment)
        assert done.returncode == (0 if moment is None else -signal.SIGKILL), done.stderr
    assert "remove node.objects_url, then start" in done.stdout
    assert files(node) == before


def run(config: Path, to: str, moment: str | None) -> subprocess.CompletedProcess[str]:
    """The command, which kills itself at a moment if there is one."""
    at = "" if moment is None else f"end_at('dicom_node.store.{moment}'); "
    script = f"from tests.crash.parts import end_at; import dicom_node.store.moving_objects; {at}"
    script += "from dicom_node.cli import app; app()"
    command = [sys.executable, "-c", script, "store", "migrate", "-c", str(config), "--objects-to", to]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_damaged_and_missing_objects_are_named_and_the_rest_is_moved(
    node: Path, bucket: S3Place, open_store: OpenStore
) -> None:
    with open_store(None) as store:
        damaged, missing = digest_of(store, 3), digest_of(store, 7)
        damage(store, damaged, lambda sound: sound[:-1] + b"\x55")
        lose(store, missing)
    moved = move(node, node, bucket)
    assert {(one.digest, one.fault) for one in moved.not_copied} == {
        (damaged, Fault.DAMAGED),
        (missing, Fault.MISSING),
    }
    assert moved.n_objects == N_INSTANCES - 1
    with open_store(bucket) as store:
        assert {(one.digest, one.fault) for one in verify(store)} == {
            (damaged, Fault.MISSING),
            (missing, Fault.MISSING),
        }
        assert keep(store, instance(3, n_pixel_bytes=515)) is Kept.DUPLICATE  # sent again, it is there
        assert [one.digest for one in verify(store)] == [missing]


def test_an_object_that_is_damaged_on_its_way_is_copied_again(
    node: Path, bucket: S3Place, open_store: OpenStore
) -> None:
    with pytest.raises(StoppedError):
        move(node, node, bucket, report=after(256))
    with open_store(bucket) as store:
        digest = digest_of(store, 5)
        put(store, digest, b"wrong")
    assert move(node, node, bucket, start_again=True).n_copied == 1
    with open_store(bucket) as store:
        assert verify(store) == []


def test_what_came_between_two_runs_is_moved_too(node: Path, moto: S3Server, open_store: OpenStore) -> None:
    place = moto.place()
    with pytest.raises(StoppedError):
        move(node, node, place, report=after(256))
    with open_store(None) as store:
        keep(store, instance(N_INSTANCES))
    assert move(node, node, place).n_copied == 1
    with open_store(place) as store:
        assert verify(store) == []


def test_a_node_that_runs_is_not_moved(node: Path, moto: S3Server, open_store: OpenStore) -> None:
    place = moto.place()
    with open_store(None), pytest.raises(DataDirInUseError):
        move(node, node, place)
    with pytest.raises(MoveTargetError, match="is where the objects are"):
        move(node, node, node)


def test_what_another_host_stored_meanwhile_is_found(node: Path, moto: S3Server) -> None:
    """A host with a data_dir of its own is not seen by the lock."""
    engine = sa.create_engine(sqlite_index(node))

    def add(n_done: int, _moved: ObjectsMoved) -> None:
        if n_done == 256:
            with engine.begin() as connection:
                connection.execute(sa.text(f"UPDATE conflicts SET digest = '{'0' * 64}'"))
                connection.execute(sa.text("DELETE FROM instances WHERE instance_number = 2"))

    place = moto.place()
    with closing(engine.raw_connection()), pytest.raises(ObjectsChangedError, match="runs on another host"):
        move(node, node, place, report=add)
    engine.dispose()


def test_removals_of_an_earlier_bucket_remove_nothing_in_the_new_one(
    node: Path, moto: S3Server, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = moto.place()
    with open_store(None) as store:
        digest = digest_of(store, 1)
        with store._database.write() as connection:
            note_removals(connection, [digest])
    move(node, node, place)
    from dicom_node.store.objects.s3 import removals

    monkeypatch.setattr(removals, "RESUMED_AFTER", -removals.RESUMED_AFTER)
    with open_store(place) as store:
        store.keep_house()
        assert verify(store) == []


def test_the_report_is_for_programs_too(node: Path, moto: S3Server, tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(f"node: {{data_dir: {node}}}\nobjects: {{endpoint_url: '{moto.url}'}}\n")
    command = [sys.executable, "-m", "dicom_node.cli", "store", "migrate", "-c", str(config), "--objects-to"]
    done = subprocess.run([*command, moto.place().url, "--json"], capture_output=True, check=True, timeout=240)
    assert json.loads(done.stdout)["n_copied"] == N_INSTANCES + 1
    refused = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, timeout=240)
    assert refused.returncode == 2
    assert "is not node.data_dir, and the index is a file in that; name" in refused.stderr
