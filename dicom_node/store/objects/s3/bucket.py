"""Bytes in a bucket: written with checksums that the server verifies, read as streams, listed, removed."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from socket import gethostname
from threading import Lock
from typing import Any, BinaryIO, Final

from dicom_node.store.errors import ObjectsUnavailableError
from dicom_node.store.objects.s3.client import (
    ChecksumRefusedError,
    NoSuchObjectError,
    RefusedByServerError,
    new_client,
    translated,
)
from dicom_node.store.objects.s3.place import S3Place

PART_BYTES: Final = 16 * 2**20  # of a multipart upload, held in memory one at a time
SINGLE_BYTES: Final = 2 * PART_BYTES  # what is not longer goes in one request
MAX_PARTS: Final = 10_000  # of one upload, in S3
CHUNK_BYTES: Final = 2**20
PROBE: Final = "probe"
MOVE: Final = "objects-move"  # there while objects are being moved to this prefix


class Proof(StrEnum):
    """By what a server shows that it has the bytes that were sent."""

    SHA256 = "sha256"  # it refuses bytes that do not have the SHA-256 in the request
    MD5 = "md5"  # or their MD5
    READ_BACK = "read-back"  # neither: what was written is read again


@dataclass(frozen=True, slots=True)
class Found:
    """A key of the bucket, without the prefix."""

    key: str
    n_bytes: int
    age_s: float


class Stream:
    """An object of the bucket, read once from its beginning."""

    def __init__(self, place: S3Place, body: Any, n_bytes: int) -> None:  # noqa: ANN401 - botocore's
        self.n_bytes = n_bytes
        self._place = place
        self._body = body
        self._n_read = 0

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next ``n_bytes``, fewer only at the end; raise `ObjectsUnavailableError` if they stop before."""
        pieces, wanted = [], min(n_bytes, self.n_bytes - self._n_read)
        while wanted > 0:
            with translated(self._place):
                piece = self._body.read(wanted)
            if not piece:
                raise ObjectsUnavailableError(self._place.url, "the connection ended before the object")
            pieces.append(piece)
            wanted -= len(piece)
            self._n_read += len(piece)
        return b"".join(pieces)


class Bucket:
    """The part of a bucket below a prefix; the client is made at the first use, and used by all threads."""

    def __init__(self, place: S3Place) -> None:
        self.place = place
        self._client: Any = None
        self._proof: Proof | None = None
        self._lock = Lock()

    def url(self, key: str) -> str:
        """Return the address of a key, for people."""
        return f"s3://{self.place.bucket}/{self.place.prefix}{key}"

    def put(self, key: str, path: Path, proof: Proof | None = None) -> None:
        """Write a file; returns once the server has shown that it has these bytes.

        Raises
        ------
        ObjectsUnavailableError
            It has not; the key may be as before, or hold the bytes.
        """
        proof = proof or self.proof()
        n_bytes = path.stat().st_size
        with path.open("rb") as file:
            try:
                if n_bytes <= SINGLE_BYTES:
                    self._put_whole(key, file, n_bytes, proof)
                else:
                    self._put_parts(key, file, n_bytes, proof)
            except ChecksumRefusedError as error:
                raise ObjectsUnavailableError(
                    self.place.url, "the bytes changed on the way to it, and it refused them"
                ) from error
            except NoSuchObjectError as error:  # a multipart upload was aborted meanwhile, or the answer of a proxy
                raise ObjectsUnavailableError(self.place.url, "it answered 404 to bytes") from error
            if proof is Proof.READ_BACK:
                file.seek(0)
                self._compare(key, file)

    def proof(self) -> Proof:
        """Return by what the server proves what it has; asked once, with bytes whose checksum is wrong.

        Raises
        ------
        ObjectsUnavailableError
            The bucket cannot be written.
        """
        with self._lock:
            if self._proof is not None:
                return self._proof
        found = self._ask_proof()
        with self._lock:
            self._proof = found
        return found

    def check_put(self) -> None:
        """Write a small object, each machine its own; raise `ObjectsUnavailableError` if that fails."""
        with self._asking() as client:
            client.put_object(**self._key(f"{PROBE}/{gethostname()}"), Body=b"probe")

    def check_readable(self) -> None:
        """List a key; raise `ObjectsUnavailableError` if that fails."""
        with self._asking() as client:
            client.list_objects_v2(Bucket=self.place.bucket, Prefix=self.place.prefix, MaxKeys=1)

    def check_move(self) -> None:
        """Raise `ObjectsUnavailableError` if objects are being moved to here, and some are not here yet."""
        if self.read_text(MOVE) is not None:  # not HEAD, whose answer does not say why access is denied
            reason = "the move of objects to it is not finished; type `store migrate` again to finish it"
            raise ObjectsUnavailableError(self.place.url, reason)

    def read_text(self, key: str) -> str | None:
        """Return what `put_text` wrote; None if there is nothing."""
        with suppress(NoSuchObjectError), self.open(key) as stream:
            return stream.read(stream.n_bytes).decode("utf-8")
        return None

    def put_text(self, key: str, text: str) -> None:
        """Write a small text."""
        body = text.encode("utf-8")
        with self._asking() as client:
            client.put_object(**self._key(key), Body=body, **_checksum(BytesIO(body), self.proof()))

    def check_writable(self) -> None:
        """Write, read and remove a small object, and list; raise `ObjectsUnavailableError` if any of it fails."""
        self.check_move()
        key, body = f"{PROBE}/{secrets.token_hex(8)}", b"probe"
        with self._asking() as client, suppress(NoSuchObjectError):
            client.put_object(**self._key(key), Body=body)
        try:
            with self.open(key) as stream:
                if stream.read(len(body) + 1) != body:
                    raise ObjectsUnavailableError(self.place.url, "it returned other bytes than it was sent")
            next(self.listed(key), None)
        except NoSuchObjectError as error:
            raise ObjectsUnavailableError(self.place.url, "what was just written is not there") from error
        finally:
            self.remove(key)

    @contextmanager
    def open(self, key: str) -> Iterator[Stream]:
        """Open an object; raise `NoSuchObjectError` if there is none."""
        with self._asking() as client:
            answer = client.get_object(**self._key(key))
        try:
            yield Stream(self.place, answer["Body"], int(answer["ContentLength"]))
        finally:
            answer["Body"].close()

    def size(self, key: str) -> int | None:
        """Return the length of an object in bytes; None if there is none."""
        with suppress(NoSuchObjectError), self._asking() as client:
            return int(client.head_object(**self._key(key))["ContentLength"])
        return None

    def copy(self, key: str, to: str) -> None:
        """Copy an object of up to 5 GB within the bucket."""
        source = {"Bucket": self.place.bucket, "Key": f"{self.place.prefix}{key}"}
        with self._asking() as client:
            client.copy_object(**self._key(to), CopySource=source)

    def remove(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        with suppress(NoSuchObjectError), self._asking() as client:
            client.delete_object(**self._key(key))

    def listed(self, start: str) -> Iterator[Found]:
        """Yield the keys that begin with ``start``, in order."""
        n_prefix = len(self.place.prefix)
        token: dict[str, str] = {}
        while True:
            with self._asking() as client:
                page = client.list_objects_v2(Bucket=self.place.bucket, Prefix=f"{self.place.prefix}{start}", **token)
            now = _server_time(page)
            for one in page.get("Contents", ()):
                age_s = (now - one["LastModified"]).total_seconds()
                yield Found(one["Key"][n_prefix:], int(one["Size"]), age_s)
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def abort_uploads(self, start: str, *, older_than_s: float) -> int:
        """Remove parts of multipart uploads to keys that begin with ``start``, which nobody finishes any more.

        Returns
        -------
        int
            Number of uploads. Those of other programs in the same bucket are theirs.
        """
        n_aborted = 0
        with self._asking() as client:
            page = client.list_multipart_uploads(Bucket=self.place.bucket, Prefix=f"{self.place.prefix}{start}")
        now = _server_time(page)
        for upload in page.get("Uploads") or ():
            if (now - upload["Initiated"]).total_seconds() >= older_than_s:
                with suppress(NoSuchObjectError), self._asking() as client:
                    client.abort_multipart_upload(
                        Bucket=self.place.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                n_aborted += 1
        return n_aborted

    def _put_whole(self, key: str, file: BinaryIO, n_bytes: int, proof: Proof) -> None:
        headers = _checksum(file, proof)
        with self._asking() as client:
            answer = client.put_object(
                **self._key(key), Body=file, ContentLength=n_bytes, ContentType="application/dicom", **headers
            )
        self._compare_checksum(answer, headers)

    def _put_parts(self, key: str, file: BinaryIO, n_bytes: int, proof: Proof) -> None:
        """Write a file in parts, each with a checksum; nothing is at the key before the last request."""
        kind = {"ChecksumAlgorithm": "SHA256"} if proof is Proof.SHA256 else {}
        part_bytes = max(PART_BYTES, -(-n_bytes // MAX_PARTS))
        with self._asking() as client:
            upload_id = client.create_multipart_upload(**self._key(key), ContentType="application/dicom", **kind)[
                "UploadId"
            ]
            upload = {**self._key(key), "UploadId": upload_id}
        try:
            parts: list[dict[str, Any]] = []
            while part := file.read(part_bytes):
                headers = _checksum(BytesIO(part), proof)
                with self._asking() as client:
                    answer = client.upload_part(**upload, PartNumber=len(parts) + 1, Body=BytesIO(part), **headers)
                self._compare_checksum(answer, headers)
                known = {name: value for name, value in headers.items() if name == "ChecksumSHA256"}
                parts.append({"PartNumber": len(parts) + 1, "ETag": answer["ETag"], **known})
            with self._asking() as client:
                client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with suppress(ObjectsUnavailableError, NoSuchObjectError), self._asking() as client:
                client.abort_multipart_upload(**upload)
            raise
        found = self.size(key)
        if found != n_bytes:
            raise ObjectsUnavailableError(self.place.url, f"it has {found} bytes of an object of {n_bytes}")

    def _compare_checksum(self, answer: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        told = answer.get("ChecksumSHA256")
        if told is not None and "ChecksumSHA256" in headers and told != headers["ChecksumSHA256"]:
            raise ChecksumRefusedError(told)

    def _compare(self, key: str, file: BinaryIO) -> None:
        try:
            with self.open(key) as stream:
                while piece := file.read(CHUNK_BYTES):
                    if stream.read(len(piece)) != piece:
                        raise ObjectsUnavailableError(self.place.url, "it has other bytes than it was sent")
                if stream.read(1):
                    raise ObjectsUnavailableError(self.place.url, "it has more bytes than it was sent")
        except NoSuchObjectError as error:
            raise ObjectsUnavailableError(self.place.url, "what was just written is not there") from error

    def _ask_proof(self) -> Proof:
        """Send a checksum that is wrong: who takes it does not look at it."""
        key = f"{PROBE}/{secrets.token_hex(8)}"
        try:
            for proof in (Proof.SHA256, Proof.MD5):
                wrong, right = (_checksum(BytesIO(body), proof) for body in (b"other", b"probe"))
                if self._refuses(key, wrong) and not self._refuses(key, right):
                    return proof
            with self._asking() as client:
                client.put_object(**self._key(key), Body=b"probe")
            return Proof.READ_BACK
        finally:
            with suppress(ObjectsUnavailableError):
                self.remove(key)

    def _refuses(self, key: str, headers: Mapping[str, str]) -> bool:
        try:
            with self._asking() as client:
                client.put_object(**self._key(key), Body=b"probe", **headers)
        except (ChecksumRefusedError, RefusedByServerError):
            return True
        return False

    def _key(self, key: str) -> dict[str, str]:
        return {"Bucket": self.place.bucket, "Key": f"{self.place.prefix}{key}"}

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        with self._lock:
            if self._client is None:
                self._client = new_client(self.place)
        with translated(self.place):
            yield self._client


def _checksum(file: BinaryIO, proof: Proof) -> dict[str, str]:
    """Return the headers for a file's bytes, as botocore names them; leaves the file at its beginning."""
    headers = {}
    if proof is not Proof.READ_BACK:
        name, computed = (
            ("ChecksumSHA256", hashlib.sha256())
            if proof is Proof.SHA256
            else ("ContentMD5", hashlib.md5(usedforsecurity=False))
        )
        while piece := file.read(CHUNK_BYTES):
            computed.update(piece)
        headers[name] = b64encode(computed.digest()).decode()
    file.seek(0)
    return headers


def _server_time(page: Mapping[str, Any]) -> datetime:
    """Return the time by the clock that dates the objects, if the server says it."""
    from email.utils import parsedate_to_datetime

    text = page.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    with suppress(TypeError, ValueError):
        return parsedate_to_datetime(text).astimezone(UTC)
    return datetime.now(UTC)
