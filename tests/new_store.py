"""Empty stores whose tables are copied: to migrate takes longer than most tests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from dicom_node.store import Store
from tests.postgresql_server import PostgresqlServer


@dataclass(frozen=True)
class NewStore:
    """What opens an empty store below a folder; ``template`` is the data directory of one."""

    template: Path

    def __call__(self, folder: Path, *, min_free_bytes: int = 0) -> Store:
        """Open a store; ``folder`` may have other files in it, but no store."""
        assert not (folder / "index.sqlite").exists()
        shutil.copytree(self.template, folder, dirs_exist_ok=True)
        return Store.open(folder, min_free_bytes=min_free_bytes)

    def again(self, folder: Path) -> Store:
        """Open a store that was opened before, as another process would."""
        return Store.open(folder)

    def url(self, _folder: Path) -> None:
        """URL of a store's index: it has none, it lies in the folder."""
        return


@dataclass(frozen=True)
class NewPostgresqlStore:
    """The same with the index on PostgreSQL; ``template`` is a database on ``server``."""

    server: PostgresqlServer
    template: str
    databases: dict[Path, str] = field(default_factory=dict)  # of a store's folder

    def __call__(self, folder: Path, *, min_free_bytes: int = 0) -> Store:
        """Open a store; ``folder`` may have other files in it, but no store."""
        assert folder not in self.databases
        self.databases[folder] = f"copy_{uuid4().hex}"
        self.server.create(self.databases[folder], template=self.template)
        return Store.open(folder, url=self.url(folder), min_free_bytes=min_free_bytes)

    def again(self, folder: Path) -> Store:
        """Open a store that was opened before, as another process would."""
        return Store.open(folder, url=self.url(folder))

    def url(self, folder: Path) -> str:
        """URL of a store's index."""
        return self.server.url(self.databases[folder])

    def drop(self) -> None:
        """Remove the databases of all stores; none may be open."""
        for database in self.databases.values():
            self.server.drop(database)


StoreMaker = NewStore | NewPostgresqlStore
