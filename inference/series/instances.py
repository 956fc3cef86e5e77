"""One source's bytes → an instance: its header, and its pixel data as encoded."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from inference.series.errors import NestedTooDeeplyError, NotDicomError, ObjectTooLargeError, UnreadableError
from inference.series.limits import (
    MAX_ELEMENTS,
    MAX_HEADER_VALUE_BYTES,
    MAX_INFLATED_BYTES,
    MAX_OBJECT_BYTES,
    MAX_SEQUENCE_DEPTH,
)

PREAMBLE_BYTES = 128
PIXEL_DATA = Tag(0x7FE0, 0x0010)
PIXEL_GROUP = 0x7FE0
TRAILING_PADDING_GROUP = 0xFFFC
ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
FIRST_GROUPS = frozenset({0x0002, 0x0004, 0x0008})  # a dataset without preamble begins in one of these


class InstanceSource(Protocol):
    """Where the Part 10 bytes of one instance are."""

    @property
    def name(self) -> str:
        """For messages; no patient name."""
        ...

    def open(self) -> BinaryIO:
        """Open the bytes from their beginning, seekable."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """A dataset without its bulk, and its pixel data as received (None where it has none)."""

    name: str
    header: Dataset
    transfer_syntax_uid: str
    pixel_data: bytes | None


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Translate all that pydicom raises on odd bytes, now or when a value is first used, into errors about ``name``.

    pydicom's warnings and log lines are dropped meanwhile: what is used is checked here, and they quote values, which
    can be patient names.
    """
    token = _is_reading.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RecursionError as error:
        raise NestedTooDeeplyError(name) from error
    except InvalidDicomError as error:
        raise NotDicomError(name) from error
    except OSError as error:
        raise UnreadableError(name, f"cannot be read: {error.strerror or type(error).__name__}") from error
    except _DAMAGE as error:
        raise UnreadableError(name, type(error).__name__) from error
    finally:
        _is_reading.reset(token)


# What pydicom, zipfile and zlib raise on damaged input.
_DAMAGE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    BytesLengthException,
)

_is_reading: ContextVar[bool] = ContextVar("is_reading", default=False)
logging.getLogger("pydicom").addFilter(lambda _record: not _is_reading.get())


def read_header(source: InstanceSource) -> FileDataset:
    """Read everything before the pixel data.

    Raises
    ------
    UnsuitableObjectError
        A leaf that says why the bytes cannot be read as DICOM.
    """
    return _read(source, stop_before_pixels=True)


def read_instance(source: InstanceSource) -> Instance:
    """Read an instance once, whole; raises as ``read_header`` does."""
    ds = _read(source, stop_before_pixels=False)
    with reading(source.name):
        return _instance(ds, source.name)


def _instance(ds: FileDataset, name: str) -> Instance:
    item = ds.get_item(PIXEL_DATA) if PIXEL_DATA in ds else None
    value = item.value if item is not None else None
    transfer_syntax_uid = str(ds.file_meta.get("TransferSyntaxUID", "")) or _guessed_transfer_syntax_uid(ds)
    return Instance(name, _without_bulk(ds), transfer_syntax_uid, value if isinstance(value, bytes) else None)


def _read(source: InstanceSource, *, stop_before_pixels: bool) -> FileDataset:
    """Read up to or including the pixel data."""
    with reading(source.name), source.open() as file:
        _check_size(file, source.name)
        head = file.read(4096)
        if not looks_like_dicom(head):
            raise NotDicomError(source.name)
        file.seek(0)
        if _is_deflated(head):
            ds = _read_deflated(file.read(), source.name)
        else:
            # BytesIO bounds every element by what is there, whatever length it claims.
            buffer = file if stop_before_pixels else io.BytesIO(file.read())
            ds = read_partial(buffer, _StopBehindPixels(source.name, before=stop_before_pixels), force=True)
        if not stop_before_pixels:
            _check_depth(ds, source.name)
        return ds


class _StopBehindPixels:
    """Ends reading at or behind the pixel data: what follows is padding, which a hostile file has without end."""

    def __init__(self, name: str, *, before: bool = False) -> None:
        self._name = name
        self._before = before
        self._n_elements = 0
        self._seen = False

    def __call__(self, tag: BaseTag, _vr: str | None, _length: int) -> bool:
        self._n_elements += 1
        if self._n_elements > MAX_ELEMENTS:
            raise UnreadableError(self._name, f"more than {MAX_ELEMENTS} elements before the pixel data")
        if self._seen or (self._before and tag == PIXEL_DATA):
            return True
        self._seen = tag == PIXEL_DATA
        return False


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first bytes are a preamble with ``DICM``, or a first element without one."""
    if head[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM":
        return True
    if len(head) < 8:
        return False
    group, element = struct.unpack("<HH", head[:4])
    if group not in FIRST_GROUPS:
        group, element = struct.unpack(">HH", head[:4])
    if group not in FIRST_GROUPS or element > 0x1000:
        return False
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    return is_explicit or struct.unpack("<I", head[4:8])[0] <= 0xFFFF


def _check_size(file: BinaryIO, name: str) -> None:
    n_bytes = file.seek(0, io.SEEK_END)
    if n_bytes > MAX_OBJECT_BYTES:
        raise ObjectTooLargeError(name, f"{n_bytes} bytes, expected at most {MAX_OBJECT_BYTES}")
    file.seek(0)


def _is_deflated(head: bytes) -> bool:
    """Whether the file meta information names the deflated transfer syntax."""
    return DeflatedExplicitVRLittleEndian.encode() in head[PREAMBLE_BYTES:] and head[132:138] == b"\x02\x00\x00\x00UL"


def _read_deflated(data: bytes, name: str) -> FileDataset:
    """Inflate with a bound, which pydicom does not (PS3.5 A.5)."""
    begin = 144 + struct.unpack("<I", data[140:144])[0]  # (0002,0000) counts from behind itself
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data[begin:], MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise ObjectTooLargeError(name, f"inflates to more than {MAX_INFLATED_BYTES} bytes")
    # Once inflated, the dataset is plain explicit VR: the meta information says so, padded to the same length.
    deflated, plain = (uid.encode() for uid in (DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian))
    meta = data[:begin].replace(deflated, plain.ljust(len(deflated), b"\0"), 1)
    return read_partial(io.BytesIO(meta + inflated), _StopBehindPixels(name))


def _guessed_transfer_syntax_uid(ds: FileDataset) -> str:
    """What pydicom found the bytes to be where no meta information says it."""
    is_implicit_vr, is_little_endian = ds.original_encoding
    if is_implicit_vr:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _check_depth(ds: Dataset, name: str, depth: int = 0) -> None:
    """Refuse nesting beyond MAX_SEQUENCE_DEPTH, before anything walks or copies the dataset."""
    if depth > MAX_SEQUENCE_DEPTH:
        raise NestedTooDeeplyError(name, f"more than {MAX_SEQUENCE_DEPTH} levels")
    for tag, unread in list(ds.items()):
        if _may_be_sequence(unread):
            element = ds[tag]
            if element.VR == "SQ":
                for item in element.value:
                    _check_depth(item, name, depth + 1)


def _may_be_sequence(element: DataElement | RawDataElement | None) -> bool:
    """Whether the element is a sequence, or unread bytes that begin as one; all others stay unread."""
    if element is None or element.tag == PIXEL_DATA:
        return False
    if isinstance(element, RawDataElement):
        return element.VR == "SQ" or (element.value or b"")[:4] in ITEM_TAGS
    return element.VR == "SQ"


def _without_bulk(ds: FileDataset) -> Dataset:
    """Return a dataset without pixels, overlays and bulky private values, elements still unread."""
    header = Dataset({tag: item for tag, item in ds.items() if not _is_bulk(tag, item)})
    header.file_meta = ds.file_meta
    is_implicit_vr, is_little_endian = ds.original_encoding
    header.set_original_encoding(is_implicit_vr, is_little_endian, ds.original_character_set)
    return header


def _is_bulk(tag: BaseTag, element: DataElement | RawDataElement) -> bool:
    if tag.group in (PIXEL_GROUP, TRAILING_PADDING_GROUP) or (tag.group & 0xFF00 == 0x6000 and tag.elem == 0x3000):
        return True
    value = element.value
    return tag.is_private and isinstance(value, bytes) and len(value) > MAX_HEADER_VALUE_BYTES
