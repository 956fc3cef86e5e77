"""Where studies are published: the interface, and folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dicom_node.export.output import publish, sync_tree
from dicom_node.export.staging import Staged
from dicom_node.store import DecisionRow, ExportRow, NewExport, Store, StudyRow

MayLeave = Callable[[StudyRow, str, DecisionRow | None], bool]


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of a study at a target.

    Attributes
    ----------
    outcome
        ``exported``, ``changed-meanwhile``, ``not-accepted`` or ``withdrawn``.
    n_arrived
        Copies that the target has.
    """

    outcome: str
    reason: str = ""
    n_arrived: int = 0


class Target(Protocol):
    """A place where studies are published."""

    @property
    def name(self) -> str:
        """``folder:PATH`` or ``peer:NAME``: how the store remembers it."""

    @property
    def in_manifest(self) -> dict[str, str]:
        """How the manifest names it; a path may name somebody, so it is not in it."""

    def publish(self, staged: Staged, new: NewExport, may_leave: MayLeave) -> Publication:
        """Publish a study, if it may still leave."""


@dataclass(frozen=True, slots=True)
class FolderTarget:
    """A folder: a study appears in it by renaming, under the store's write lock, after its evidence was compared."""

    store: Store
    folder: Path
    now: Callable[[], datetime]
    by: str = "export"  # who exports, for the audit trail

    @property
    def name(self) -> str:
        """How the store remembers it."""
        return f"folder:{self.folder.resolve()}"

    @property
    def in_manifest(self) -> dict[str, str]:
        """How the manifest names it."""
        return {"kind": "folder"}

    def publish(self, staged: Staged, new: NewExport, may_leave: MayLeave) -> Publication:
        """Publish a study, if it may still leave."""
        folders = sorted({one.relative_path.parents[1] for one in staged.copied})
        for folder in folders:
            sync_tree(staged.folder / folder)
        begun: ExportRow | None = self.store.exports.begin(new, may_leave, self.now())
        if begun is None:
            return Publication("changed-meanwhile", "something arrived or was decided while it was de-identified")
        with self.store.exports.publishing(begun, may_leave, self.now(), by=self.by) as is_fine:
            if is_fine:
                for folder in folders:
                    publish(staged.folder / folder, self.folder / folder)
        if not is_fine:
            self.store.exports.forget(begun)
            return Publication("changed-meanwhile", "something arrived or was decided just before it was published")
        return Publication("exported", n_arrived=len(staged.copied))
