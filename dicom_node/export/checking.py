"""Check a folder of copies afterwards: against its manifests, and against what the node remembers of its exports."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.export.errors import OutputFolderError
from dicom_node.export.manifest import EARLIER_FOLDER, MANIFEST_FILE, is_unbroken
from dicom_node.export.output import STAGING_FOLDER
from dicom_node.export.staging import digest_of
from dicom_node.store import ExportRow, ExportState


@dataclass(frozen=True, slots=True)
class Checked:
    """What a folder holds, and what is wrong with it.

    Attributes
    ----------
    digests
        By study (its replaced Study Instance UID): digest over its copies, as the node remembers it.
    """

    n_manifests: int
    n_copies: int
    key_fingerprints: frozenset[str]
    digests: dict[str, str]
    findings: tuple[str, ...]


def check_folder(folder: Path) -> Checked:
    """Compare every copy in a folder with the manifests there; a study's newest manifest counts.

    Raises
    ------
    OutputFolderError
        The folder has no manifest.
    """
    manifests = list(_manifests(folder))
    if not manifests:
        raise OutputFolderError("has no manifest.json", "name a folder that `export` or `deidentify` wrote")
    findings = [f"{path.name}: a record was added, removed or changed" for path, content in manifests if not content]
    expected: dict[str, dict[str, str]] = {}
    for _, content in manifests:
        of_run: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for record in content.get("instances", ()):
            of_run[Path(record["path"]).parts[1]][record["path"]] = record["sha256"]
        for study, copies in of_run.items():
            expected.setdefault(study, copies)
    named = {path: sha256 for copies in expected.values() for path, sha256 in copies.items()}
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.dcm")):
        if STAGING_FOLDER not in path.relative_to(folder).parts:
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    findings += [f"{path}: no manifest names it" for path in found if path not in named]
    findings += [f"{path}: changed" for path, sha256 in found.items() if named.get(path, sha256) != sha256]
    findings += [f"{path}: missing" for path in named if path not in found]
    keys = frozenset(str(content["key_fingerprint"]) for _, content in manifests if content)
    digests = {study: digest_of(copies.items()) for study, copies in expected.items()}
    return Checked(len(manifests), len(found), keys, digests, tuple(findings))


def compare_with_node(checked: Checked, exports: Iterable[ExportRow]) -> list[str]:
    """Compare the studies of a folder with the exports that the node remembers of the folder's key."""
    known = {
        row.copy_study_instance_uid: row
        for row in exports
        if row.key_fingerprint in checked.key_fingerprints and not row.is_dataset
    }
    findings = []
    for study, digest in checked.digests.items():
        row = known.get(study)
        if row is None:
            findings.append(f"study {study}: this node has not exported it")
        elif row.state is ExportState.WITHDRAWN:
            findings.append(f"study {study}: withdrawn ({row.withdrawn_because}), and its copies are still here")
        elif row.content_digest != digest:
            findings.append(f"study {study}: this node has exported other copies of it")
    return findings


def _manifests(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the manifests, the newest first; the content of one that is not as it was written is empty."""
    earlier = sorted((folder / EARLIER_FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in (folder / MANIFEST_FILE, *earlier):
        if not path.is_file() or path.name.startswith("dry-run-"):
            continue
        try:
            content = json.loads(path.read_bytes())
            yield path, content if is_unbroken(content) else {}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            yield path, {}
