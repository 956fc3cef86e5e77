"""Stored objects to send, made from synthetic instances."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmread

from dicom_node.peers import ObjectToSend
from tests.factories import EncodedInstance


def to_send(instances: Iterable[EncodedInstance]) -> list[ObjectToSend]:
    objects = []
    for instance in instances:
        meta = instance.dataset().file_meta
        objects.append(
            ObjectToSend(
                str(meta.MediaStorageSOPClassUID),
                str(meta.MediaStorageSOPInstanceUID),
                str(meta.TransferSyntaxUID),
                instance.open,
            )
        )
    return objects


def files_to_send(paths: Iterable[Path]) -> list[ObjectToSend]:
    objects = []
    for path in paths:
        meta = dcmread(path, stop_before_pixels=True).file_meta
        objects.append(
            ObjectToSend(
                str(meta.MediaStorageSOPClassUID),
                str(meta.MediaStorageSOPInstanceUID),
                str(meta.TransferSyntaxUID),
                lambda path=path: path.open("rb"),
            )
        )
    return objects
