"""Metadata of one object, computed once and kept (docs/decisions/0045)."""

from __future__ import annotations

from typing import Final

import pydicom

from dicom_node.dicomweb.dicom_json import Memo, encode_dataset
from dicom_node.dicomweb.parsing import parsing, read_without_pixels
from dicom_node.store import InstanceRow, ObjectStore

# Kept metadata of another form is computed again: increase the number when `dicom_json` changes what it returns.
FORM: Final = f"metadata 1, pydicom {pydicom.__version__}".encode()


class KeptMetadata:
    """Metadata beside the objects of a store."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def encoded(self, row: InstanceRow, memo: Memo) -> bytes:
        """Return the kept metadata, with relative references to bulk data; compute and keep it if there is none.

        Raises
        ------
        UnreadableObjectError
            The object cannot be decoded.
        """
        kept = self._objects.read_derived(row.digest, FORM, dataset_bytes=row.dataset_bytes)
        if kept is not None:
            return kept
        ds, place = read_without_pixels(self._objects, row)
        with parsing(row.sop_instance_uid):
            encoded = encode_dataset(ds, place, memo)
        self._objects.keep_derived(row.digest, FORM, encoded)
        return encoded
