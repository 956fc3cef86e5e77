"""``rendered`` and ``thumbnail`` of studies, series, instances and frames (PS3.18 10.4.1.1.3 and 10.4.1.1.6)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.decoding_budget import DecodingBudget
from dicom_node.dicomweb.errors import (
    BadRequestError,
    NoSuchResourceError,
    NotAcceptableError,
    PictureTooLargeError,
    UnreadableObjectError,
)
from dicom_node.dicomweb.frame_sources import FrameShape, FrameSources
from dicom_node.dicomweb.frames import parse_frame_numbers
from dicom_node.dicomweb.media_types import MULTIPART, MediaRange, accepted_ranges
from dicom_node.dicomweb.metadata import rows_of, uids_of
from dicom_node.dicomweb.multipart import Part, in_chunks, multipart_response
from dicom_node.dicomweb.parsing import parsing, read_without_pixels
from dicom_node.dicomweb.rendering.parameters import RenderParameters, parse_parameters
from dicom_node.dicomweb.rendering.picture import (
    BYTES_PER_PIXEL,
    FORMATS,
    OutsideError,
    draw,
    encode_picture,
    fit_of,
)
from dicom_node.dicomweb.resources import path_uids, resource_name, resource_url
from dicom_node.store import InstanceRow, ObjectStore
from dicom_node.store.index.search import Search
from part10.pixel_data import PixelDataLocation

log = logging.getLogger(__name__)

PIXEL_DATA: Final = 0x7FE00010
MAX_PICTURES: Final = 2000  # in one answer
MAX_TRIED: Final = 5  # instances that are looked at for one picture of a series or study
_ANY_TYPES: Final = frozenset({"*/*", "image/*"})


@dataclass(frozen=True, slots=True)
class _Choice:
    """Media type of the pictures, and whether they come in parts."""

    media_type: str
    is_multipart: bool


@dataclass(frozen=True, slots=True)
class _Image:
    """An instance that can be drawn."""

    row: InstanceRow
    ds: Dataset
    place: PixelDataLocation | None
    shape: FrameShape
    sources: FrameSources
    budget: DecodingBudget

    def picture(self, number: int, choice: _Choice, parameters: RenderParameters) -> bytes:
        """Return a frame, by number from 1, as an image file."""
        uid = self.row.sop_instance_uid
        if number > self.shape.n_frames:
            raise NoSuchResourceError(f"frame {number} of {self.shape.n_frames} of instance {uid}")
        tag = PIXEL_DATA if self.place is None else self.place.tag
        try:
            with (
                parsing(uid),
                closing(self.sources.described(self.ds, self.place, number)) as frames,
                self.budget.reserve(self._needed_bytes(number, parameters)),
            ):
                picture = draw(self.ds, next(frames), tag=tag, index=number - 1, parameters=parameters)
                return encode_picture(picture, choice.media_type, parameters.quality)
        except OutsideError as error:
            found, width, height = error.args
            expected = f"a region that begins within the image, {width} x {height}"
            raise BadRequestError("parameter viewport", found, expected) from error
        except UnreadableObjectError as error:
            log.warning("no picture: %s", error, extra={"sop_instance_uid": uid})
            stored = f'{MULTIPART}; type="application/dicom"; transfer-syntax=* of the instance'
            raise NotAcceptableError(f"picture of instance {uid}", stored) from error

    def _needed_bytes(self, number: int, parameters: RenderParameters) -> int:
        """Return the memory for drawing a frame, scaling it, and its file."""
        n_bytes = BYTES_PER_PIXEL * int(self.ds.Rows) * int(self.ds.Columns)
        fit = fit_of(self.ds, number - 1, parameters.viewport)
        if fit is not None:
            at_most = self.budget.total_bytes
            if n_bytes <= at_most < n_bytes + fit.n_bytes:
                raise PictureTooLargeError(self.row.sop_instance_uid, *fit.size, n_bytes + fit.n_bytes, at_most)
            n_bytes += fit.n_bytes
        return n_bytes


class RenderService:
    """Pictures of images over the store, within the budget for decoding."""

    def __init__(self, search: Search, objects: ObjectStore, budget: DecodingBudget) -> None:
        self._search = search
        self._objects = objects
        self._budget = budget

    def rendered(self, request: Request) -> Response:
        """Return pictures of all images below the path, or of the frames in it."""
        uids = path_uids(request)
        parameters = parse_parameters(request.query_params)
        numbers = _frame_numbers(request)
        rows = rows_of(request, self._search, uids)
        resource = f"pictures of {resource_name(uids)}"
        is_one = len(rows) == 1 and (numbers is None or len(numbers) == 1)
        choice = choose_type(accepted_ranges(request), resource, prefers_one=is_one)
        if not choice.is_multipart:
            return self._one(rows, numbers, choice, parameters, resource)
        parts = self._parts(request, rows, numbers, choice, parameters, resource)
        return multipart_response(parts, choice.media_type)

    def thumbnail(self, request: Request) -> Response:
        """Return one small picture that stands for the resource."""
        uids = path_uids(request)
        parameters = parse_parameters(request.query_params, is_thumbnail=True)
        rows = rows_of(request, self._search, uids)
        resource = f"thumbnail of {resource_name(uids)}"
        choice = choose_type(accepted_ranges(request), resource, prefers_one=True)
        if choice.is_multipart:
            raise NotAcceptableError(resource, ", ".join(FORMATS))
        return self._one(rows, _frame_numbers(request), choice, parameters, resource)

    def picture(self, row: InstanceRow, number: int | None, media_type: str, parameters: RenderParameters) -> Response:
        """Return a picture of one frame, by number from 1, or of the one in the middle."""
        choice = _Choice(media_type, is_multipart=False)
        resource = f"picture of instance {row.sop_instance_uid}"
        return self._one([row], None if number is None else [number], choice, parameters, resource)

    def _one(
        self,
        rows: Sequence[InstanceRow],
        numbers: Sequence[int] | None,
        choice: _Choice,
        parameters: RenderParameters,
        resource: str,
    ) -> Response:
        """Return a picture of the frame in the middle of the instance in the middle."""
        if numbers is not None and len(numbers) > 1:
            raise NotAcceptableError(resource, f'{MULTIPART}; type="{choice.media_type}"')
        for row in in_the_middle_first(rows)[:MAX_TRIED]:
            image = self._image(row)
            if image is not None:
                number = (image.shape.n_frames + 1) // 2 if numbers is None else numbers[0]
                return Response(image.picture(number, choice, parameters), media_type=choice.media_type)
        raise NoSuchResourceError(resource)

    def _parts(
        self,
        request: Request,
        rows: Sequence[InstanceRow],
        numbers: Sequence[int] | None,
        choice: _Choice,
        parameters: RenderParameters,
        resource: str,
    ) -> Iterator[Part]:
        n_left = MAX_PICTURES
        for row in rows:
            image = self._image(row)
            if image is None:
                continue
            url = resource_url(request, uids_of(row))
            for number in numbers or range(1, image.shape.n_frames + 1):
                if n_left == 0:
                    raise NotAcceptableError(resource, f"at most {MAX_PICTURES} pictures in one answer; ask for series")
                n_left -= 1
                chunks = in_chunks(image.picture(number, choice, parameters))
                yield Part(choice.media_type, f"{url}/frames/{number}/rendered", chunks)
        if n_left == MAX_PICTURES:
            raise NoSuchResourceError(resource)

    def _image(self, row: InstanceRow) -> _Image | None:
        """Return an instance to be drawn, or None if it is no image."""
        syntax = UID(row.transfer_syntax_uid)
        if not syntax.is_transfer_syntax:
            return None
        ds, place = read_without_pixels(self._objects, row)
        if (place is None and not syntax.is_deflated) or "Rows" not in ds or "PhotometricInterpretation" not in ds:
            return None
        with parsing(row.sop_instance_uid):
            shape = FrameShape.of(ds, is_native=not syntax.is_encapsulated)
        sources = FrameSources(self._objects, row, shape, self._budget)
        return _Image(row, ds, place, shape, sources, self._budget)


def _frame_numbers(request: Request) -> tuple[int, ...] | None:
    text = request.path_params.get("frames")
    return None if text is None else parse_frame_numbers(text)


def in_the_middle_first(rows: Sequence[InstanceRow]) -> list[InstanceRow]:
    """Return the middle instance of each series, that of the longest series first, and then all others."""
    by_series: dict[str, list[InstanceRow]] = {}
    for row in rows:
        by_series.setdefault(row.series_instance_uid, []).append(row)
    longest_first = sorted(by_series.values(), key=len, reverse=True)
    middle = [series.pop(len(series) // 2) for series in longest_first]
    return [*middle, *(row for series in longest_first for row in series)]


def choose_type(ranges: Sequence[MediaRange], resource: str, *, prefers_one: bool) -> _Choice:
    """Return the first accepted type of picture.

    Parameters
    ----------
    prefers_one
        Whether a client that takes anything gets one picture, or parts.
    """
    for accepted in ranges:
        if accepted.media_type in _ANY_TYPES:
            return _Choice("image/jpeg", is_multipart=not prefers_one)
        if accepted.media_type in FORMATS:
            return _Choice(accepted.media_type, is_multipart=False)
        if accepted.media_type == MULTIPART:
            kind = "image/jpeg" if accepted.part_type in _ANY_TYPES else accepted.part_type
            if kind in FORMATS:
                return _Choice(kind, is_multipart=True)
    raise NotAcceptableError(resource, f"{', '.join(FORMATS)}, or {MULTIPART} of them")
