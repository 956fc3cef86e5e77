"""Studies of a dataset, wherever it lies now, that may no longer be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicom_node.store import ExportState, Store


def withdrawn_since(store: Store, manifest: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each study of a manifest of which an export into a dataset is withdrawn."""
    studies = {str(volume["study"]) for volume in manifest["volumes"]}
    rows = store.exports.list(key_fingerprint=str(manifest["key_fingerprint"]), state=ExportState.WITHDRAWN)
    return [
        f"study {row.copy_study_instance_uid}: withdrawn ({row.withdrawn_because}), and its volumes are still here"
        for row in rows
        if row.is_dataset and row.copy_study_instance_uid in studies
    ]
