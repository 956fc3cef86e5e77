"""Read objects for others and compare them with their names on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from dicom_node.store.objects.object_store import COPY_BYTES, ObjectStore, StoredBytes
from part10.file_meta import START_BYTES, dataset_offset


def read_checked(
    objects: ObjectStore, digest: str, *, dataset_bytes: int | None = None, chunk_bytes: int
) -> Iterator[bytes]:
    """Yield an object as a Part 10 file; its last chunk only if the SHA-256 of the dataset is right.

    So a short object is checked before anything of it is sent, and of a longer one that has changed the end is missing.

    Raises
    ------
    ObjectMissingError, ObjectDamagedError
        As `ObjectStore.open`; damaged is also one whose bytes have changed, or that the disk cannot read.
    """
    computed = hashlib.sha256()
    with objects.open(digest, dataset_bytes=dataset_bytes) as file:
        try:
            start = file.read(START_BYTES)
            held = start + file.read(dataset_offset(start) - START_BYTES)
            while chunk := file.read(chunk_bytes):
                yield held
                computed.update(chunk)
                held = chunk
        except OSError as error:
            raise objects.changed(digest, f"cannot be read ({error.strerror})") from error
    found = computed.hexdigest()
    if found != digest:
        raise objects.changed(digest, f"has the SHA-256 {found[:12]}")
    yield held


def read_digest(stored: StoredBytes, write: Callable[[bytes], object]) -> str:
    """Read an object to its end, and return the SHA-256 of its dataset; raise `NotPart10Error` if it has none."""
    start = stored.read(START_BYTES)
    write(start)
    write(stored.read(dataset_offset(start) - START_BYTES))
    computed = hashlib.sha256()
    while piece := stored.read(COPY_BYTES):
        computed.update(piece)
        write(piece)
    return computed.hexdigest()
