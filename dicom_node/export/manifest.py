"""``manifest.json``: what a run copied or refused and why, as a chain of digests, without values of a source."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import dicom_node
from dicom_node.export.cleaner import Report
from dicom_node.export.copying import Copied
from dicom_node.export.profile import Profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.standard_table import EDITION, OPTION_CODES

MANIFEST_FILE: Final = "manifest.json"
EARLIER_FOLDER: Final = "manifests"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was not copied, by its number in the order of the inputs, because a path may name a patient."""

    number: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Content of the manifest in plain JSON types."""

    content: dict[str, Any]

    @classmethod
    def of(
        cls,
        copied: Sequence[Copied],
        refused: Sequence[Refusal],
        report: Report,
        n_duplicates: int,
        n_not_used: int,
        n_in: int,
        profile: Profile,
        pseudonyms: Pseudonyms,
        **more: object,
    ) -> Self:
        """Create the manifest of a run; ``more`` contains further fields in plain JSON types."""
        codes = ["113100", *(OPTION_CODES[option][0] for option in profile.options)]
        content: dict[str, Any] = {
            "project": pseudonyms.project,
            "key_fingerprint": pseudonyms.fingerprint(),
            "profile": {"name": profile.name, "sha256": profile.digest, "method_codes": codes},
            "table": EDITION,
            "node_version": dicom_node.__version__,
            "counts": {
                "in": n_in,
                "copied": len(copied),
                "refused": len(refused),
                "duplicates": n_duplicates,
                "not_used": n_not_used,
                "held_back": n_in - len(copied) - len(refused) - n_duplicates - n_not_used,  # with the whole study
                "refused_by_code": dict(sorted(Counter(one.code for one in refused).items())),
            },
            "attributes": [
                {"attribute": keyword, "action": action, "n": n}
                for (keyword, action), n in sorted(report.actions.items())
            ],
            "unknown_elements_removed": report.n_unknown,
            "private_elements_met": report.n_private,
            "refused": [
                {"file_number": one.number, "code": one.code, "reason": one.reason}
                for one in sorted(refused, key=lambda one: one.number)
            ],
        }
        content.update(more)
        head = hashlib.sha256(_canonical(content)).hexdigest()
        content["instances"] = list(_chained(copied, head))
        last = content["instances"][-1]["chain"] if content["instances"] else head
        content["chain"] = {"first": head, "last": last}
        return cls(content)

    def write(self, path: Path) -> None:
        """Write the manifest atomically; one of an earlier run that says something else stays, in ``manifests/``."""
        content = json.dumps(self.content, indent=1).encode() + b"\n"
        if path.is_file() and (earlier := path.read_bytes()) != content:
            folder = path.with_name(EARLIER_FOLDER)
            folder.mkdir(exist_ok=True)
            _write(folder / f"{path.stem}-{hashlib.sha256(earlier).hexdigest()[:16]}.json", earlier)
        _write(path, content)


def is_unbroken(content: dict[str, Any]) -> bool:
    """Return whether a manifest's chain of digests is valid: nothing was added, removed or changed."""
    body = {key: value for key, value in content.items() if key not in ("instances", "chain")}
    chain = hashlib.sha256(_canonical(body)).hexdigest()
    if content["chain"]["first"] != chain:
        return False
    for record in content["instances"]:
        chain = _link(chain, {key: value for key, value in record.items() if key != "chain"})
        if record["chain"] != chain:
            return False
    return bool(content["chain"]["last"] == chain)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _chained(copied: Sequence[Copied], chain: str) -> list[dict[str, Any]]:
    records = []
    for one in sorted(copied, key=lambda one: one.relative_path):
        record: dict[str, Any] = {
            "path": str(one.relative_path),
            "sop_class_uid": one.sop_class_uid,
            "source_sha256": one.source_sha256,
            "sha256": one.sha256,
            "n_bytes": one.n_bytes,
        }
        chain = _link(chain, record)
        records.append({**record, "chain": chain})
    return records


def _link(chain: str, record: dict[str, Any]) -> str:
    return hashlib.sha256(chain.encode("ascii") + _canonical(record)).hexdigest()


def _canonical(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
