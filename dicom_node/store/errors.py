"""Errors of the store; their messages name the thing, the value found and what to do."""

from __future__ import annotations

from pathlib import Path

from dicom_node.errors import NodeError, Refused, Transient


class StoreError(NodeError):
    """Base of the store's errors."""

    code = "store"


class StorageFullError(StoreError, Transient):
    """Too little space is left, so nothing more is accepted."""

    code = "storage-full"

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(folder, reason)

    def __str__(self) -> str:
        folder, reason = self.args
        return f"{folder}: {reason}; instance not accepted, make space"


class UnreadableInstanceError(StoreError, Refused):
    """The header cannot be read, or a UID in it is missing or invalid."""

    code = "unreadable-instance"

    def __init__(self, sop_instance_uid: str, reason: str) -> None:
        super().__init__(sop_instance_uid, reason)

    def __str__(self) -> str:
        sop_instance_uid, reason = self.args
        return f"instance {sop_instance_uid}: {reason}; not accepted, ask the sender to repair it"


class MismatchedInstanceError(UnreadableInstanceError):
    """The dataset's SOP Class or Instance UID differs from the one that its sender announced."""

    code = "mismatched-instance"


class NotSendableError(StoreError, Refused):
    """A delivery cannot be repeated."""

    code = "not-sendable"

    def __init__(self, delivery_id: int, reason: str) -> None:
        super().__init__(delivery_id, reason)

    def __str__(self) -> str:
        return f"delivery {self.args[0]}: not sent again: {self.args[1]}"


class EvidenceChangedError(StoreError, Refused):
    """A decision was made on evidence that is no longer what the study has."""

    code = "evidence-changed"

    def __init__(self, study_instance_uid: str) -> None:
        super().__init__(study_instance_uid)

    def __str__(self) -> str:
        return (
            f"study {self.args[0]}: something arrived or was found since this was looked at; nothing was decided, "
            "look again and decide then"
        )


class LeaseLostError(StoreError, Refused):
    """The job or delivery no longer belongs to the owner that reports on it, so the report is ignored."""

    code = "lease-lost"

    def __init__(self, kind: str, row_id: int, owner: str) -> None:
        super().__init__(kind, row_id, owner)

    def __str__(self) -> str:
        kind, row_id, owner = self.args
        return f"{kind} {row_id}: no longer held by {owner} (expired, cancelled or superseded); its report is ignored"


class IllegalTransitionError(StoreError, Refused):
    """A job or delivery cannot go from its state to the one asked for."""

    code = "illegal-transition"

    def __init__(self, kind: str, row_id: int, state: str, wanted: str, allowed: tuple[str, ...]) -> None:
        super().__init__(kind, row_id, state, wanted, allowed)

    def __str__(self) -> str:
        kind, row_id, state, wanted, allowed = self.args
        ways = ", ".join(allowed) or "nothing"
        return f"{kind} {row_id}: is {state}, cannot become {wanted}; from {state} it can become {ways}"


class ConflictChoiceError(StoreError, Refused):
    """The content of a conflict cannot be adopted; nothing was changed."""

    code = "conflict-choice"

    def __init__(self, conflict_id: int, finding: str, way_out: str) -> None:
        super().__init__(conflict_id, finding, way_out)

    def __str__(self) -> str:
        conflict_id, finding, way_out = self.args
        return f"conflict {conflict_id}: {finding}; nothing was changed, {way_out}"


class NotFoundError(StoreError, Refused):
    """Nothing in the index has this key."""

    code = "not-found"

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(kind, key)

    def __str__(self) -> str:
        kind, key = self.args
        return f"{kind} {key}: not in the index"


class ResultConflictError(StoreError, Refused):
    """A result has the SOP Instance UID of a stored instance with other bytes."""

    code = "result-conflict"

    def __init__(self, sop_instance_uid: str, digest: str, stored_digest: str) -> None:
        super().__init__(sop_instance_uid, digest, stored_digest)

    def __str__(self) -> str:
        sop_instance_uid, digest, stored_digest = self.args
        return (
            f"result {sop_instance_uid}: SHA-256 {digest[:12]}, but {stored_digest[:12]} is stored under that UID; "
            "results not stored, see `dicom-node status` for where the stored one came from"
        )


class UnsupportedFilterError(StoreError, Refused):
    """A query filters by an attribute that the index does not search."""

    code = "unsupported-filter"

    def __init__(self, level: str, keyword: str) -> None:
        super().__init__(level, keyword)

    def __str__(self) -> str:
        level, keyword = self.args
        return f"{level} query: {keyword} cannot be searched at this level; leave it out"


class DatabaseTooNewError(StoreError, Refused):
    """The database was migrated by a later version of this package."""

    code = "database-too-new"

    def __init__(self, url: str, revision: str, known: str) -> None:
        super().__init__(url, revision, known)

    def __str__(self) -> str:
        url, revision, known = self.args
        return (
            f"database {url}: has schema revision {revision}, this version knows up to {known}; "
            "not opened, install the version that wrote it or restore the backup made before the upgrade"
        )


class UnfinishedMoveError(StoreError, Refused):
    """An index or objects are being moved there, and a part of them is missing."""

    code = "move-unfinished"

    def __init__(self, target: str, what: str = "an index") -> None:
        super().__init__(target, what)

    def __str__(self) -> str:
        target, what = self.args
        return f"{target}: the move of {what} to it is not finished; type `store migrate` again to finish it"


class MoveTargetError(StoreError, Refused):
    """An index, or objects, cannot be moved there."""

    code = "move-target"

    def __init__(
        self, target: str, finding: str, way_out: str = "name an empty database, or move the file of SQLite away first"
    ) -> None:
        super().__init__(target, finding, way_out)

    def __str__(self) -> str:
        target, finding, way_out = self.args
        return f"{target}: {finding}; {way_out}"


class ObjectsChangedError(StoreError, Refused):
    """While objects were moved, the index named other ones."""

    code = "move-changed"

    def __init__(self, target: str, n_found: int, n_named: int) -> None:
        super().__init__(target, n_found, n_named)

    def __str__(self) -> str:
        target, n_found, n_named = self.args
        return (
            f"{target}: {n_found} objects were looked at, and the index names {n_named} now; a part of the node runs "
            "on another host: stop it, then type the command again"
        )


class TooManyExtraError(StoreError, Refused):
    """More objects are extra than the index names, so it is probably not the index of these objects."""

    code = "too-many-extra"

    def __init__(self, n_extra: int, n_named: int) -> None:
        super().__init__(n_extra, n_named)

    def __str__(self) -> str:
        n_extra, n_named = self.args
        return (
            f"{n_extra} objects are extra, and the index names only {n_named}; nothing was removed: check that "
            "node.database_url is the index of these objects and not an empty or restored one"
        )


class IndexDiffersError(StoreError, Refused):
    """After a move, the two databases do not hold the same rows."""

    code = "move-differs"

    def __init__(self, database: str, table: str, n_here: int, n_there: int) -> None:
        super().__init__(database, table, n_here, n_there)

    def __str__(self) -> str:
        database, table, n_here, n_there = self.args
        return (
            f"{database}: table {table} differs, {n_here} rows to move and {n_there} there; the old database was "
            "changed after a part was copied: type the command again with --start-again"
        )


class DatabaseUrlError(StoreError, Refused):
    """The URL of the index does not name a database that this package can use."""

    code = "database-url"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)

    def __str__(self) -> str:
        url, reason = self.args
        return (
            f"{url}: {reason}; leave node.database_url out for SQLite, or set it to "
            "postgresql://user:password@host/database and install its driver: pip install 'dicom-node[postgresql]'"
        )


class IndexUnavailableError(StoreError, Transient):
    """The database does not answer, or another writer has locked it for too long."""

    code = "index-unavailable"

    def __init__(self, url: str, reason: str, is_uncertain: bool = False) -> None:
        super().__init__(url, reason, is_uncertain)

    @property
    def is_uncertain(self) -> bool:
        """Whether the failure came while the transaction was being committed, so that all or nothing was written."""
        return bool(self.args[2])

    def __str__(self) -> str:
        url, reason, is_uncertain = self.args
        if is_uncertain:
            return (
                f"database {url}: {reason}, while it committed; either all of it was written or nothing, it is tried "
                "again; look before you repeat it yourself"
            )
        return f"database {url}: {reason}; nothing was written, it is tried again"


class DataDirInUseError(StoreError, Transient):
    """Another process holds this role on the data directory."""

    code = "data-dir-in-use"

    def __init__(self, data_dir: Path, role: str, holder: str) -> None:
        super().__init__(data_dir, role, holder)

    def __str__(self) -> str:
        data_dir, role, holder = self.args
        return f"{data_dir}: `{role}` already runs there ({holder}); stop it first or use another node.data_dir"


class ObjectsElsewhereError(StoreError, Refused):
    """The index names objects, and none of those that were looked for is there."""

    code = "objects-elsewhere"

    def __init__(self, n_looked_for: int, example: str) -> None:
        super().__init__(n_looked_for, example)

    def __str__(self) -> str:
        n_looked_for, example = self.args
        return (
            f"{example}: missing, as are all {n_looked_for} objects of the index that were looked for; not started: "
            "mount the disk of node.data_dir, correct node.objects_url or node.database_url, or, if the objects are "
            "lost for good, set node.objects_are_lost: true"
        )


class IndexElsewhereError(StoreError, Refused):
    """There are objects, and the index is new: it was lost, or its disk is not mounted."""

    code = "index-elsewhere"

    def __init__(self, example: str) -> None:
        super().__init__(example)

    def __str__(self) -> str:
        return (
            f"{self.args[0]}: is an object, as are others, and the index names nothing; not started: mount the disk of "
            "the index (node.data_dir for SQLite), correct node.database_url or node.objects_url, or restore the "
            "index from a backup; if it is lost for good, see index-elsewhere in docs/operate.md"
        )


class DataDirReplacedError(StoreError, Transient):
    """Another folder took the place of the data directory while the node runs."""

    code = "data-dir-replaced"

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)

    def __str__(self) -> str:
        return (
            f"{self.args[0]}: is another folder than when the node started, because a disk was mounted or unmounted; "
            "instance not accepted, mount the right disk and restart the node"
        )


class ObjectMissingError(StoreError, Refused):
    """The index names an object that is missing."""

    code = "object-missing"
    _NOTHING = "is missing"

    def __init__(self, digest: str, found: str = _NOTHING) -> None:
        super().__init__(digest, found)

    @property
    def was_set_aside(self) -> bool:
        """Whether its damaged bytes are there under another name."""
        return bool(self.args[1] != self._NOTHING)

    @property
    def found(self) -> str:
        """What is wrong, as the end of a sentence."""
        return str(self.args[1])

    def __str__(self) -> str:
        digest, found = self.args
        return f"object {digest[:12]}: its file {found}; restore it from a backup or have the series sent again"


class ObjectDamagedError(StoreError, Refused):
    """The file of an object differs from what was stored."""

    code = "object-damaged"

    def __init__(self, digest: str, found: str) -> None:
        super().__init__(digest, found)

    def __str__(self) -> str:
        digest, found = self.args
        return (
            f"object {digest[:12]}: its file {found}; it is not used, "
            "restore it from a backup or have the same instance sent again, and check the disk"
        )


class ObjectsUrlError(StoreError, Refused):
    """The URL of the objects does not name a bucket."""

    code = "objects-url"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)

    def __str__(self) -> str:
        return (
            f"node.objects_url: {self.args[0]}; leave it out to keep objects in node.data_dir, or set it to "
            "s3://bucket/prefix"
        )


class ObjectsDriverError(StoreError, Refused):
    """The library that talks to object stores is not installed."""

    code = "objects-driver"

    def __init__(self, module: str) -> None:
        super().__init__(module)

    def __str__(self) -> str:
        return f"node.objects_url: {self.args[0]} is not installed; type: pip install 'dicom-node[s3]'"


class ObjectsUnavailableError(StoreError, Transient):
    """The store of objects does not answer, or not as it should."""

    code = "objects-unavailable"

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)

    def __str__(self) -> str:
        place, reason = self.args
        return f"objects in {place}: {reason}; nothing was lost or acknowledged, try again later"


class ObjectRemovedError(StoreError, Transient):
    """An object is just being removed that is being stored again."""

    code = "object-removed"

    def __init__(self, digest: str) -> None:
        super().__init__(digest)

    def __str__(self) -> str:
        return f"object {self.args[0][:12]}: is just being deleted and cannot be stored again yet; try again later"
