"""The index that `make bench-query` asks has the rows that real arrivals make."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.store import Arrival, Store
from dicom_node.store.sqlite import sqlite_url
from tests.arrivals import NOON
from tests.many_instances import INSTANCES_PER_SERIES, dataset, encoded_dataset, fill

# What depends on the moment, on the bytes and on what was done with a series afterwards.
OTHER = frozenset(
    {"id", "digest", "dataset_bytes", "n_dataset_bytes", "state", "completed_at", "association_id", "received_at",
     "first_arrival_at", "last_arrival_at"}
)  # fmt: skip
STUDY = 1  # of a CT and an MR series


def rows(folder: Path, table: str) -> list[dict[str, object]]:
    """The rows of a table that belong to `STUDY`."""
    engine = sa.create_engine(sqlite_url(folder / "index.sqlite"))
    with engine.connect() as connection:
        uid = str(dataset(STUDY).StudyInstanceUID)
        asked = sa.text(f"SELECT * FROM {table} WHERE study_instance_uid = :uid ORDER BY 1, 2")
        found = connection.execute(asked, {"uid": uid}).mappings().all()
    engine.dispose()
    kept = [{name: value for name, value in row.items() if name not in OTHER} for row in found]
    return sorted(kept, key=lambda row: str(row.get("sop_instance_uid", row.get("series_instance_uid"))))


def test_filled_rows_are_those_of_received_instances(tmp_path: Path) -> None:
    filled, received = tmp_path / "filled", tmp_path / "received"
    filled.mkdir()
    fill(filled, 4)
    with Store.open(received) as store:
        for series in (0, 1):
            for instance in range(INSTANCES_PER_SERIES):
                ds = dataset(STUDY, series, instance)
                announced = (ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian)
                spool = store.objects.spool(
                    sop_class_uid=announced[0], sop_instance_uid=announced[1], transfer_syntax_uid=announced[2]
                )
                spool.write(encoded_dataset(ds))
                store.inbox.keep(spool, Arrival(*announced, "SCANNER", "1", NOON))

    for table, n_rows in (("studies", 1), ("series", 2), ("instances", 2 * INSTANCES_PER_SERIES)):
        found = rows(filled, table)
        assert len(found) == n_rows
        assert found == rows(received, table)
