"""Decode compressed pixel data one frame at a time, within a budget (PS3.5 8.2 and A.4)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Final, cast

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID, JPEGTransferSyntaxes, RLELossless

from dicom_node.dicomweb import imagecodecs_plugin
from dicom_node.dicomweb.decoding_budget import FIRST_WAIT_S, DecodingBudget
from part10.codestream import codestream_size
from part10.errors import ReadsTooMuchError
from part10.metered import MeteredFile
from part10.pixel_data import PixelDataLocation

# Times the bytes of a decoded frame: the encoded frame, its encapsulated copy, the decoder's result, pydicom's array,
# the bytes that are sent. No lossless encoding makes a frame larger by more than a few hundredths.
COPIES_OF_A_FRAME: Final = 6
_MAX_ENCODED_RATIO: Final = 1.25
_ENCODED_SLACK_BYTES: Final = 2**16
_BYTES_TO_FIND_A_FRAME: Final = 32  # of offset tables and heads of items
_JPEG_FAMILY: Final = frozenset(JPEGTransferSyntaxes)

imagecodecs_plugin.register()


@dataclass(frozen=True, slots=True)
class Decoded:
    """One frame in the words of explicit VR little endian, and the attributes that decoding has changed."""

    pixels: bytes
    photometric_interpretation: str
    samples_per_pixel: int
    is_interleaved: bool = True  # samples of a pixel lie next to each other


class EncodedFrames:
    """Frames of encapsulated pixel data, read one at a time; none of them is much larger than it is when decoded.

    Parameters
    ----------
    file
        The instance as a Part 10 file.
    n_frames, frame_bytes
        How many there are, and the size of a decoded one, as the header says.
    """

    def __init__(self, file: BinaryIO, place: PixelDataLocation, *, n_frames: int, frame_bytes: int) -> None:
        self.max_bytes = int(_MAX_ENCODED_RATIO * frame_bytes) + _ENCODED_SLACK_BYTES
        self.n_frames = n_frames
        self._begin = place.offset
        self._file = MeteredFile(file, max_bytes=self.max_bytes + n_frames * _BYTES_TO_FIND_A_FRAME)

    def get(self, index: int) -> bytes:
        """Return one frame; ``index`` counts from 0."""
        self._file.begin(self._begin)
        try:
            return get_frame(cast("BinaryIO", self._file), index, number_of_frames=self.n_frames)
        except ReadsTooMuchError:  # without offsets the frames before it may have to be read to find it
            return next(islice(self.all(), index, None))

    def all(self) -> Iterator[bytes]:
        """Yield the frames in order; raise `ValueError` if there are fewer than the header says."""
        self._file.begin(self._begin)
        encoded_frames = generate_frames(cast("BinaryIO", self._file), number_of_frames=self.n_frames)
        for index in range(self.n_frames):
            encoded = next(encoded_frames, None)
            if encoded is None:
                raise ValueError(f"{index} frames, expected {self.n_frames}")
            yield encoded
            del encoded
            self._file.begin()


class FrameDecoder:
    """Decodes frames of one instance.

    Parameters
    ----------
    file
        The instance as a Part 10 file.
    ds
        Its header.
    place
        Location of its encapsulated pixel data.

    Raises
    ------
    ValueError
        Nothing here can decode it, or one frame would take more than the budget allows.
    """

    def __init__(
        self, file: BinaryIO, ds: Dataset, place: PixelDataLocation, syntax: UID, budget: DecodingBudget
    ) -> None:
        self._options: dict[str, Any] = {**as_pixel_options(ds), "pixel_keyword": "PixelData", "as_rgb": True}
        self._options.pop("extended_offsets", None)
        self.n_frames = int(self._options["number_of_frames"])
        self._options["number_of_frames"] = 1
        rows, columns, n_samples, n_bits = (
            int(self._options[name]) for name in ("rows", "columns", "samples_per_pixel", "bits_allocated")
        )
        if min(rows, columns, n_samples, self.n_frames) < 1 or n_bits % 8:
            raise ValueError("rows, columns, samples, frames or bits that no decoder takes")
        self._size = rows, columns
        self.frame_bytes = rows * columns * n_samples * n_bits // 8
        self._n_reserved = COPIES_OF_A_FRAME * self.frame_bytes + _ENCODED_SLACK_BYTES
        if self._n_reserved > budget.total_bytes:
            at_most = (budget.total_bytes - _ENCODED_SLACK_BYTES) // COPIES_OF_A_FRAME
            raise ValueError(
                f"a frame has {self.frame_bytes} bytes, at most {at_most} are decoded (web.decoding_bytes)"
            )
        self._encoded = EncodedFrames(file, place, n_frames=self.n_frames, frame_bytes=self.frame_bytes)
        self._decoder = get_decoder(syntax)
        is_ours = n_samples == 1 or syntax == RLELossless
        self._plugin = imagecodecs_plugin.NAME if is_ours else ""
        self._has_size = syntax in _JPEG_FAMILY
        self._budget = budget

    def decode(self, index: int, *, wait_s: float = FIRST_WAIT_S) -> Generator[Decoded, None, None]:
        """Yield one frame; its memory is reserved until the iterator is continued or closed.

        Parameters
        ----------
        index
            Of the frame, from 0.

        Raises
        ------
        ValueError
            The bytes are not such a frame; what else `part10.damage.PYDICOM_ERRORS` lists is possible.
        BusyError
            Other requests use the budget for as long as ``wait_s``.
        """
        with self._budget.reserve(self._n_reserved, wait_s=wait_s) as reservation:
            decoded = self._decoded(self._encoded.get(index))
            reservation.shrink(len(decoded.pixels))
            yield decoded

    def decode_all(self, *, wait_s: float, later_wait_s: float) -> Generator[Decoded, None, None]:
        """Yield all frames in order; each one's memory is reserved until the next is asked for.

        Parameters
        ----------
        wait_s, later_wait_s
            How long to wait for the budget, before the first frame and before each of the others.
        """
        encoded_frames = self._encoded.all()
        for index in range(self.n_frames):
            with self._budget.reserve(self._n_reserved, wait_s=later_wait_s if index else wait_s) as reservation:
                decoded = self._decoded(next(encoded_frames))
                reservation.shrink(len(decoded.pixels))
                yield decoded

    def _decoded(self, encoded: bytes) -> Decoded:
        if self._has_size and (size := codestream_size(encoded)) != self._size:
            raise ValueError(f"codestream of {size} rows and columns, expected {self._size}")
        pixels, properties = self._decoder.as_array(
            encapsulate([encoded]), index=0, decoding_plugin=self._plugin, **self._options
        )
        return Decoded(
            pixels.tobytes(), str(properties["photometric_interpretation"]), int(properties["samples_per_pixel"])
        )
