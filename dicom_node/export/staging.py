"""Stage a study: write verified copies of all its objects, or say why the study stays."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.export.copying import Copied
from dicom_node.export.manifest import Refusal
from dicom_node.export.persons import ID_OR_ISSUER, differing_persons, told_of_several
from dicom_node.export.selection import SeriesToCopy, StoredSource
from dicom_node.export.workers import NO_SPACE, Apply, NotCopied, ToCopy, copy_one
from dicom_node.store import InstanceRow, ObjectDamagedError, ObjectMissingError, ObjectStore

# A copy that fails its verification shows that a rule is wrong for this study, so nothing of the study is exported.
_QUARANTINE: Final = frozenset({"residue", "not-verified"})
_LOST: Final = frozenset({ObjectMissingError.code, ObjectDamagedError.code})


@dataclass(frozen=True, slots=True)
class Staged:
    """Copies of a study in a folder of their own, not published yet.

    Attributes
    ----------
    keeps_in
        Why nothing of the study may be published although some copies exist: an outcome and a sentence.
    """

    folder: Path
    copied: tuple[Copied, ...]
    keeps_in: tuple[str, str] | None = None

    @property
    def content_digest(self) -> str:
        """SHA-256 over the copies: the same for the same bytes."""
        return digest_of((str(one.relative_path), one.sha256) for one in self.copied)


def digest_of(copies: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 over paths and digests of copies."""
    lines = sorted(f"{path} {sha256}\n" for path, sha256 in copies)
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


class Stager:
    """Stages studies one after the other; counts what it read and refused."""

    def __init__(self, objects: ObjectStore, folder: Path, apply: Apply) -> None:
        self.n_in = 0
        self.refused: list[Refusal] = []
        self._objects = objects
        self._folder = folder
        self._apply = apply
        self._n_staged = 0

    def stage(self, series: Iterable[SeriesToCopy]) -> Staged:
        """Write copies of the images of each series, and of its results if every image has a copy."""
        self.discard()
        self._n_staged += 1
        folder = self._folder / str(
            self._n_staged
        )  # a folder of its own: a copy may be finished after the study failed
        copied: list[Copied] = []
        for one in series:
            self._refuse_foreign(one.n_foreign)
            n_refused, problem = self._copy(one.images, folder, copied, is_face_gone=one.is_face_gone)
            if problem is None and not n_refused:
                _, problem = self._copy(one.results, folder, copied, is_face_gone=False)
            if problem is not None:
                return Staged(folder, (), problem)
        differing = differing_persons(one.person for one in copied)
        if len({one.patient_id for one in copied}) > 1:
            differing = (ID_OR_ISSUER, *differing)
        if differing:
            return Staged(folder, (), ("two-patients", told_of_several("its objects", differing)))
        return Staged(folder, tuple(copied))

    def discard(self) -> None:
        """Remove everything that is staged."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _refuse_foreign(self, n: int) -> None:
        """Count objects in a series of images that no model looks at: PET, reports and segmentations stay."""
        told = "it is no CT or MR image, so no model has looked at it, and it stays"
        self.refused += [Refusal(self.n_in + number, "foreign-result", told) for number in range(1, n + 1)]
        self.n_in += n

    def _copy(
        self, rows: Sequence[InstanceRow], folder: Path, copied: list[Copied], *, is_face_gone: bool
    ) -> tuple[int, tuple[str, str] | None]:
        """Copy objects; return how many were refused, and what keeps the whole study in, if anything does."""
        begin = self.n_in
        self.n_in += len(rows)
        tasks = [ToCopy(StoredSource(self._objects, row.digest), folder, is_face_gone) for row in rows]
        n_refused = 0
        for number, result in enumerate(self._apply(copy_one, tasks), start=begin + 1):
            if not isinstance(result, NotCopied):
                copied.append(result)
            elif result.code in _QUARANTINE:
                return n_refused, ("quarantined", result.reason)
            elif result.code in _LOST:
                return n_refused, ("sources-lost", result.reason)
            elif result.code == NO_SPACE:
                return n_refused, (NO_SPACE, result.reason)
            else:
                n_refused += 1
                self.refused.append(Refusal(number, result.code, result.reason))
        return n_refused, None
