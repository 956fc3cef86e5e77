"""Compressed files as streams of what is in them, known by their first bytes and not by their names."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

GZIP_MAGIC = b"\x1f\x8b\x08"
BZIP2_MAGIC = b"BZh"
MAX_LAYERS = 2  # a browser or a script that compresses what is compressed already adds one
UNPACKING_ERRORS = (OSError, EOFError, zlib.error, ValueError)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A file's content as a stream that is read forwards.

    Attributes
    ----------
    layers
        What was taken off, outermost first: ``gzip``, ``bzip2``; empty for a plain file.
    """

    stream: BinaryIO
    layers: tuple[str, ...]


@contextmanager
def unpacked(path: Path) -> Iterator[Unpacked]:
    """Open a file, and take off up to two layers of gzip or bzip2.

    Nothing is unpacked before it is read, so that whoever reads decides how much. Reading raises one of
    ``UNPACKING_ERRORS`` where the file is damaged.
    """
    with ExitStack() as stack:
        stream = cast("BinaryIO", stack.enter_context(path.open("rb")))
        layers: list[str] = []
        while len(layers) < MAX_LAYERS:
            magic = stream.read(len(GZIP_MAGIC))
            stream.seek(0)
            if magic == GZIP_MAGIC:
                stream = cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=stream, mode="rb")))
                layers.append("gzip")
            elif magic == BZIP2_MAGIC:
                stream = cast("BinaryIO", stack.enter_context(bz2.BZ2File(stream)))
                layers.append("bzip2")
            else:
                break
        yield Unpacked(stream, tuple(layers))
