"""Objects of a bucket for other processes that only read: those that a command starts, and workers of a cluster.

What travels to them are settings. Credentials never do: each process finds them where AWS's own tools look, on the
machine on which it runs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final

from dicom_node.store.errors import StoreError
from dicom_node.store.objects.s3.place import S3Place

if TYPE_CHECKING:
    from dicom_node.store.objects.s3.objects import S3Objects

CLUSTER_CACHE_BYTES: Final = 4 * 2**30  # copies of one worker of a cluster, which reads each series once

_opening = Lock()


@dataclass(frozen=True, slots=True)
class BucketReader:
    """What is left of `S3Objects` when it is pickled; the bucket is asked when the first object is opened.

    Attributes
    ----------
    data_dir
        Of the node, where its copies lie. A worker of a Dask cluster keeps its copies in its own local directory.
    """

    place: S3Place
    data_dir: Path
    min_free_bytes: int = 0

    def open(self, digest: str, *, dataset_bytes: int | None = None) -> BinaryIO:
        """Open the local copy of an object, as `ObjectStore.open` does."""
        return self._objects().open(digest, dataset_bytes=dataset_bytes)

    def lack(self) -> str | None:
        """Return why objects cannot be read here; None if they can."""
        try:
            self._objects().bucket.check_readable()
        except StoreError as error:
            return str(error)
        return None

    def _objects(self) -> S3Objects:
        with _opening:
            return _opened(self, _folder_of_dask_worker())


def reader_of(place: S3Place, data_dir: Path, *, min_free_bytes: int = 0) -> BucketReader:
    """Return what other processes read with, whatever folder they are in."""
    if place.ca_file is not None:
        place = replace(place, ca_file=place.ca_file.absolute())
    return BucketReader(place, data_dir.absolute(), min_free_bytes)


@cache
def _opened(reader: BucketReader, folder: Path | None) -> S3Objects:
    """Return the objects, the same for all tasks of this process: a client is made once."""
    from dicom_node.store.objects.s3.objects import S3Objects

    if folder is None:
        return S3Objects(reader.place, reader.data_dir, min_free_bytes=reader.min_free_bytes)
    place = replace(reader.place, cache_bytes=min(reader.place.cache_bytes, CLUSTER_CACHE_BYTES))
    return S3Objects(place, folder / "dicom-node-objects", min_free_bytes=reader.min_free_bytes)


def _folder_of_dask_worker() -> Path | None:
    """Return the local directory of the Dask worker whose task this is; None in any other process."""
    if "distributed" not in sys.modules:  # a worker has it
        return None
    from distributed import get_worker

    try:
        return Path(get_worker().local_directory)
    except ValueError:
        return None
