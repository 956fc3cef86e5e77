"""Bounds of requests that bring instances: their number, their length, and how slowly they may come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from dicom_node.http_intake.errors import BodyTooLargeError, SlowBodyError, TooManyUploadsError

PIECE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds of requests that bring instances; each is a setting."""

    max_object_bytes: int
    max_request_bytes: int
    max_requests: int
    receive_timeout_s: float
    accept_unknown_uids: bool


class RequestSlots:
    """Limits how many requests bring instances at the same time; for one event loop."""

    def __init__(self, n_slots: int) -> None:
        self._n_slots = n_slots
        self._n_taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Take a slot for the time of the block; raise `TooManyUploadsError` if none is free."""
        if self._n_taken >= self._n_slots:
            raise TooManyUploadsError(self._n_slots)
        self._n_taken += 1
        try:
            yield
        finally:
            self._n_taken -= 1


def check_length(request: Request, limits: StoreLimits) -> None:
    """Raise `BodyTooLargeError` if the body is too long by its own account."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limits.max_request_bytes:
        raise BodyTooLargeError(limits.max_request_bytes)


async def body_pieces(request: Request, limits: StoreLimits) -> AsyncIterator[bytes]:
    """Yield the body in pieces of `PIECE_BYTES`, each of which has to come within the time for it.

    Raises
    ------
    BodyTooLargeError
        It is longer than the settings allow.
    SlowBodyError
        A piece did not come in time.
    """
    piece = bytearray()
    n_bytes = 0
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(limits.receive_timeout_s):
                while len(piece) < PIECE_BYTES:
                    chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                    piece += chunk
        except TimeoutError as error:
            raise SlowBodyError(limits.receive_timeout_s) from error
        if not piece:
            return
        n_bytes += len(piece)
        if n_bytes > limits.max_request_bytes:
            raise BodyTooLargeError(limits.max_request_bytes)
        yield bytes(piece)
        piece.clear()
