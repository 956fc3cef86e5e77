"""What a bucket alone has: a server that is away, wrong credentials, checksums, copies, removals that break off."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from dicom_node.store import (
    Kept,
    ObjectDamagedError,
    ObjectsUnavailableError,
    ObjectsUrlError,
    S3Place,
    Store,
    intake_trouble,
    read_checked,
)
from dicom_node.store.integrity import Fault
from dicom_node.store.objects.s3.bucket import PART_BYTES, SINGLE_BYTES, Bucket, Proof
from dicom_node.store.objects.s3.cache import ReadCache
from dicom_node.store.objects.s3.objects import S3Objects
from tests.peer_servers import free_port
from tests.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, SeaweedServer
from tests.store.object_stores.conftest import OpenStore, damage, forget_copies, verify
from tests.store.sending import SERIES, STUDY, T0, instance, keep


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///data", "does not begin with s3://"),
        ("s3://", "does not begin with s3://"),
        ("s3://key:secret@bucket/prefix", "more in it than bucket and prefix"),
        ("s3://UPPER/prefix", "no name of a bucket"),
        ("s3://bucket/../other", "characters or parts"),
    ],
)
def test_a_url_that_names_no_bucket_is_refused_without_its_secrets(url: str, words: str) -> None:
    with pytest.raises(ObjectsUrlError, match=words) as refused:
        S3Place.from_url(url)
    assert "secret" not in str(refused.value)
    with pytest.raises(ObjectsUrlError, match="credentials go elsewhere"):
        S3Place.from_url("s3://bucket", endpoint_url="http://key:secret@host")


def test_a_server_that_is_away_is_not_success_and_says_so(open_store: OpenStore, moto: S3Server) -> None:
    place = moto.place()
    away = replace(place, endpoint_url=f"http://127.0.0.1:{free_port()}")
    with open_store(away) as store:
        with pytest.raises(ObjectsUnavailableError, match="cannot be reached"):
            keep(store, instance())
        assert store.series.list() == ()
        trouble = intake_trouble(store, T0)
        assert trouble is not None
        assert trouble.code == "objects-unavailable"
    with open_store(place) as store:
        assert intake_trouble(store, T0) is None
        assert keep(store, instance()) is Kept.STORED
        assert verify(store) == []


def test_a_bucket_that_is_missing_is_named(open_store: OpenStore, moto: S3Server) -> None:
    with open_store(replace(moto.place(), bucket="no-such-bucket")) as store:
        with pytest.raises(ObjectsUnavailableError, match="there is no such bucket; create it"):
            keep(store, instance())
        assert list(store.objects.spool_folder.iterdir()) == []


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "words"),
    [("AWS_ACCESS_KEY_ID", "access key is unknown"), ("AWS_SECRET_ACCESS_KEY", "secret key is wrong")],
)
def test_wrong_credentials_are_refused_and_never_shown(
    seaweedfs: SeaweedServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    words: str,
) -> None:
    monkeypatch.setenv(variable, "a-very-secret-value")
    with caplog.at_level(logging.DEBUG, logger="dicom_node"), pytest.raises(ObjectsUnavailableError, match=words) as no:
        Bucket(seaweedfs.place()).check_writable()
    assert "very-secret" not in str(no.value) + caplog.text


@pytest.mark.peers
@pytest.mark.slow
def test_a_server_that_compares_checksums_is_known(seaweedfs: SeaweedServer, moto: S3Server, tmp_path: Path) -> None:
    assert Bucket(seaweedfs.place()).proof() is Proof.SHA256
    assert Bucket(moto.place()).proof() is Proof.READ_BACK


def test_a_server_that_stores_other_bytes_is_found_out_before_anything_is_acknowledged(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_store.objects.bucket
    put = Bucket._put_whole

    def put_other(self: Bucket, key: str, file: object, n_bytes: int, proof: Proof) -> None:
        path = Path(s3_store.data_dir / "other")
        path.write_bytes(os.urandom(n_bytes))
        with path.open("rb") as other:
            put(self, key, other, n_bytes, proof)

    assert bucket.proof() is Proof.READ_BACK
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "_put_whole", put_other)
        with pytest.raises(ObjectsUnavailableError, match="other bytes than it was sent"):
            keep(s3_store, instance())
    assert s3_store.series.list() == ()
    assert keep(s3_store, instance()) is Kept.STORED


def test_a_long_object_goes_in_parts_and_comes_back(s3_store: Store, tmp_path: Path) -> None:
    bucket = s3_store.objects.bucket
    path = tmp_path / "long"
    path.write_bytes(os.urandom(SINGLE_BYTES + PART_BYTES + 7))
    for proof in (Proof.SHA256, Proof.MD5):
        bucket.put("objects/00/long", path, proof)
        with bucket.open("objects/00/long") as stream:
            assert stream.read(path.stat().st_size + 1) == path.read_bytes()
    assert bucket.abort_uploads("", older_than_s=0) == 0


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_is_not_kept(s3_store: Store) -> None:
    keep(s3_store, instance())
    digest = s3_store.series.instances(SERIES)[0].digest
    (copy,) = s3_store.objects.cache.folder.glob(f"*/??/{digest}.dcm")
    copy.write_bytes(copy.read_bytes()[:-1] + b"?")
    with pytest.raises(ObjectsUnavailableError, match="the local copy"):
        list(read_checked(s3_store.objects, digest, chunk_bytes=100))
    assert b"".join(read_checked(s3_store.objects, digest, chunk_bytes=100)).endswith(instance().encoded)
    damage(s3_store, digest, lambda encoded: encoded[:-1] + b"?")
    forget_copies(s3_store)
    with pytest.raises(ObjectDamagedError):
        s3_store.objects.open(digest)
    assert list(s3_store.objects.cache.digests()) == []
    assert list(s3_store.objects.spool_folder.iterdir()) == []


def test_copies_never_take_more_than_they_may_and_the_least_used_go(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path / "cache", max_bytes=1000, min_free_bytes=0)
    other = ReadCache(tmp_path / "cache", max_bytes=1000, min_free_bytes=0)
    file = tmp_path / "file"
    for number in range(20):
        file.unlink(missing_ok=True)
        file.write_bytes(bytes(100))
        (cache if number % 2 else other).keep(f"{number:064x}", file)
        os.utime(file, (number, number))
        assert sum(path.stat().st_size for path in cache.folder.glob("*/??/*")) <= 1000
    assert cache.n_bytes() <= 1000
    opened = cache.open(f"{19:064x}")
    assert opened is not None
    opened.close()
    assert cache.open(f"{0:064x}") is None
    file.write_bytes(bytes(1001))
    cache.keep("f" * 64, file)
    assert cache.open("f" * 64) is None


def test_copies_from_before_a_restart_of_the_machine_are_compared_first(s3_store: Store, open_store: OpenStore) -> None:
    keep(s3_store, instance(1))
    keep(s3_store, instance(2))
    sound, torn = (row.digest for row in s3_store.series.instances(SERIES))
    cache = s3_store.objects.cache
    (now,) = [path for path in cache.folder.iterdir() if path.is_dir()]
    now.rename(cache.folder / "an-earlier-boot")
    path = cache.folder / "an-earlier-boot" / torn[:2] / f"{torn}.dcm"
    path.write_bytes(bytes(path.stat().st_size))  # the length reached the disk, the bytes did not
    again = ReadCache(cache.folder, max_bytes=10**9, min_free_bytes=0)
    opened = again.open(sound)
    assert opened is not None
    opened.close()
    assert again.open(torn) is None
    assert not path.exists()


def test_without_room_on_disk_for_a_copy_the_reader_is_told(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(s3_store, instance())
    digest = s3_store.series.instances(SERIES)[0].digest
    forget_copies(s3_store)
    monkeypatch.setattr(s3_store.objects, "free_bytes", lambda: 10)
    with pytest.raises(Exception, match="too little for a copy"):
        s3_store.objects.open(digest)


def test_a_removal_that_broke_off_is_ended_later_and_until_then_nothing_is_acknowledged(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(s3_store, instance())
    digest = s3_store.series.instances(SERIES)[0].digest
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "remove", _unavailable)
        s3_store.erasure.delete(STUDY, reason="withdrawn", decided_by="A. Example", now=T0)
        assert s3_store.objects.exists(digest)
    with pytest.raises(Exception, match="is just being deleted"):
        keep(s3_store, instance())
    s3_store.keep_house()  # too early
    assert s3_store.objects.exists(digest)
    monkeypatch.setattr("dicom_node.store.objects.s3.removals.RESUMED_AFTER", timedelta(0))
    s3_store.keep_house()
    assert not s3_store.objects.exists(digest)
    assert keep(s3_store, instance()) is Kept.STORED
    assert verify(s3_store) == []


def test_an_object_whose_setting_aside_broke_off_is_not_deleted(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(s3_store, instance())
    digest = s3_store.series.instances(SERIES)[0].digest
    damage(s3_store, digest, lambda sound: sound[:-1] + b"\x55")
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "copy", _unavailable)
        with pytest.raises(ObjectsUnavailableError):
            s3_store.integrity.set_aside(digest)
    monkeypatch.setattr("dicom_node.store.objects.s3.removals.RESUMED_AFTER", timedelta(0))
    s3_store.keep_house()
    assert s3_store.objects.exists(digest)
    assert [finding.fault for finding in verify(s3_store)] == [Fault.DAMAGED]
    assert keep(s3_store, instance()) is Kept.DUPLICATE  # and has repaired it
    assert verify(s3_store) == []


def test_an_object_that_was_sent_again_during_a_long_setting_aside_stays(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node takes a setting aside that reads for more than ten minutes for one that broke off."""
    keep(s3_store, instance())
    digest = s3_store.series.instances(SERIES)[0].digest
    damage(s3_store, digest, lambda sound: sound[:-1] + b"\x55")
    is_sound = S3Objects.is_sound

    def read_for_long(objects: S3Objects, digest: str) -> bool:
        found = is_sound(objects, digest)
        with monkeypatch.context() as patch:
            patch.setattr("dicom_node.store.objects.s3.removals.RESUMED_AFTER", timedelta(0))
            objects.keep_house(s3_store._database)
        assert keep(s3_store, instance()) is Kept.DUPLICATE
        return found

    monkeypatch.setattr(S3Objects, "is_sound", read_for_long)
    s3_store.integrity.set_aside(digest)
    monkeypatch.undo()
    assert s3_store.objects.exists(digest)
    assert [finding.fault for finding in verify(s3_store) if finding.fault is not Fault.EXTRA] == []


def test_uploads_of_other_programs_in_the_bucket_are_left_alone(s3_store: Store) -> None:
    bucket = s3_store.objects.bucket  # type: ignore[attr-defined]
    with bucket._asking() as client:
        for key in ("backups/1", "objects/7f/1"):
            client.create_multipart_upload(**bucket._key(key))
    assert bucket.abort_uploads("objects/", older_than_s=-3600.0) == 1
    with bucket._asking() as client:
        (left,) = client.list_multipart_uploads(Bucket=bucket.place.bucket, Prefix=bucket.place.prefix)["Uploads"]
    assert left["Key"].endswith("backups/1")


def _unavailable(self: Bucket, *_: str) -> None:
    raise ObjectsUnavailableError(self.place.url, "away")


def test_other_machines_delete_their_copies_of_what_was_removed(
    open_store: OpenStore, moto: S3Server, tmp_path: Path
) -> None:
    place = moto.place()
    with open_store(place) as store:
        keep(store, instance())
        digest = store.series.instances(SERIES)[0].digest
        database = f"sqlite:///{store.data_dir / 'index.sqlite'}"
        with Store.open(tmp_path / "other", url=database, objects_at=place) as other:
            other.objects.open(digest).close()
            other.objects.keep_derived(digest, b"form", b"computed")
            assert list(other.objects.cache.digests()) == [digest]
            store.erasure.delete(STUDY, reason="withdrawn", decided_by="A. Example", now=T0)
            other.keep_house()
            assert list(other.objects.cache.digests()) == []
            assert other.objects.read_derived(digest, b"form") is None


def test_another_process_reads_with_credentials_of_its_own(s3_store: Store, tmp_path: Path) -> None:
    """What is pickled holds settings: neither the client, nor the credentials that this process has."""
    keep(s3_store, instance())
    (row,) = s3_store.search.find_instances(sop_instance_uid=instance().uid)
    pickled = pickle.dumps(partial(s3_store.objects.open, row.digest, dataset_bytes=row.dataset_bytes))
    assert all(secret.encode() not in pickled for secret in (ACCESS_KEY, SECRET_KEY))
    assert SECRET_KEY not in repr(pickle.loads(pickled))
    forget_copies(s3_store)
    (tmp_path / "task").write_bytes(pickled)
    script = "import pickle, sys; print(len(pickle.load(open(sys.argv[1], 'rb'))().read()))"
    command = [sys.executable, "-c", script, str(tmp_path / "task")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) > row.dataset_bytes
    forget_copies(s3_store)
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    without = {name: value for name, value in os.environ.items() if name not in keys}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=without)
    assert "ObjectsUnavailableError" in done.stderr
    assert "there are no credentials" in done.stderr
