"""Empty stores whose tables are copied: to migrate takes longer than most tests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dicom_node.store import Store


@dataclass(frozen=True)
class NewStore:
    """What opens an empty store below a folder; ``template`` is the data directory of one."""

    template: Path

    def __call__(self, folder: Path, *, min_free_bytes: int = 0) -> Store:
        """Open a store; ``folder`` may have other files in it, but no store."""
        assert not (folder / "index.sqlite").exists()
        shutil.copytree(self.template, folder, dirs_exist_ok=True)
        return Store.open(folder, min_free_bytes=min_free_bytes)
