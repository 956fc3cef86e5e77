"""The encoded pixel data of an instance, read when they are needed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO, Protocol


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
class PixelData:
    """The value of Pixel Data, Float Pixel Data or Double Float Pixel Data.

    It is read only when it is decoded, so that a series of any length needs little memory in addition to its volume.

    Attributes
    ----------
    tag
        Of the element, which says integers, float or double float.
    begin, n_bytes
        Where it lies in the source, and how much is there, whatever the length says.
    is_encapsulated
        The length is undefined: the value goes up to a delimiter, at most to the end of the source.
    held
        The bytes, where the source's own had to be changed to be read.
    """

    source: InstanceSource
    tag: int
    begin: int
    n_bytes: int
    is_encapsulated: bool
    held: bytes | None = None

    def __len__(self) -> int:
        return self.n_bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PixelData) and len(self) == len(other) and self.read() == other.read()

    __hash__ = None  # type: ignore[assignment]

    def read(self) -> bytes:
        """Read the whole value; less if the source has become shorter."""
        return self.held if self.held is not None else self.read_part(0, self.n_bytes)

    def read_part(self, begin: int, n_bytes: int) -> bytes:
        """Read at most ``n_bytes`` from offset ``begin`` of the value."""
        n_bytes = max(0, min(n_bytes, self.n_bytes - begin))
        if self.held is not None:
            return self.held[begin : begin + n_bytes]
        with self.source.open() as file:
            file.seek(self.begin + begin)
            return file.read(n_bytes)

    def held_if_far(self) -> PixelData:
        """Return a copy in memory if each seek in the source costs as much as reading all of it, else itself."""
        if self.held is not None:
            return self
        with self.source.open() as file:
            if is_near(file):
                return self
            file.seek(self.begin)
            held = file.read(self.n_bytes)
        return PixelData(self.source, self.tag, self.begin, len(held), self.is_encapsulated, held)


def is_near(file: BinaryIO) -> bool:
    """Whether the file supports fast random access."""
    if isinstance(file, io.BytesIO):
        return True
    try:
        file.fileno()
    except (OSError, AttributeError):
        return False
    return True
