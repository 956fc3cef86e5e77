"""De-identify objects in this process or in several; each process holds one object at a time."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TypeVar

from dicom_node.errors import NodeError
from dicom_node.export.cleaner import Cleaner
from dicom_node.export.copying import Copied, write_copy
from dicom_node.export.errors import NotExportableError, OutputFolderError
from dicom_node.export.profile import Profile
from dicom_node.export.pseudonyms import Pseudonyms
from inference.series.instances import without_pydicom_warnings

_CHUNK: Final = 8
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_SPACE: Final = "no-space"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Source(Protocol):
    """An object that can be read in another process too."""

    def open(self) -> BinaryIO:
        """Return a new stream of its Part 10 file."""


class Apply(Protocol):
    """A ``map`` over the processes; results come in the order of the items."""

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterable[Result]:
        """Return what ``function`` returns for each item."""


@dataclass(frozen=True, slots=True)
class ToCopy:
    """An object to de-identify, and the folder for its copy."""

    source: Source
    staging: Path
    is_face_gone: bool = False


@dataclass(frozen=True, slots=True)
class NotCopied:
    """Why an object has no copy: a stable code, and a sentence without values of the source."""

    code: str
    reason: str


_cleaner: Cleaner


def _start(profile: Profile, pseudonyms: Pseudonyms) -> None:
    global _cleaner
    _cleaner = Cleaner(profile, pseudonyms)


@contextmanager
def copying_processes(workers: int, profile: Profile, pseudonyms: Pseudonyms) -> Iterator[Apply]:
    """Yield a function that maps over ``workers`` processes; fewer than two means this process."""
    if workers < 2:
        _start(profile, pseudonyms)
        yield lambda function, items: map(function, items)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload(["dicom_node.export.preloaded"])
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(profile, pseudonyms)) as pool:

        def apply(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterable[Result]:
            try:
                yield from pool.map(function, items, chunksize=_CHUNK)
            except BrokenProcessPool as error:
                raise OutputFolderError(
                    "a worker process was killed, perhaps because memory ran out", "use --workers 1"
                ) from error

        yield apply


def copy_one(item: ToCopy) -> Copied | NotCopied:
    """Copy one object within `copying_processes`; if it is refused, return why."""
    try:
        with without_pydicom_warnings(), item.source.open() as file:
            return write_copy(file, item.staging, _cleaner, is_face_gone=item.is_face_gone)
    except NotExportableError as error:
        return NotCopied(error.reason, str(error))
    except NodeError as error:  # the store does not have the object, or its bytes have changed
        return NotCopied(error.code, str(error))
    except OSError as error:
        if error.errno in _FULL:
            return NotCopied(NO_SPACE, "the disk of the copies is full")
        told = error.strerror or type(error).__name__
        return NotCopied("unreadable", f"the file cannot be read, or its copy cannot be written ({told})")
