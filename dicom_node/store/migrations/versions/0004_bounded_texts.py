"""Texts of headers are cut in the index; the objects keep them whole."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

MAX_CHARACTERS = 256  # of one value
MAX_VALUES = 32
LONG_JSON = 4096  # characters of DICOM JSON below which nothing was out of bounds by much
MAX_COLUMN = MAX_CHARACTERS * MAX_VALUES
KEYS = {"studies": "study_instance_uid", "series": "series_instance_uid", "instances": "id"}
COLUMNS: dict[str, tuple[str, ...]] = {
    "studies": (
        "patient_id",
        "patient_name_key",
        "patient_name_groups_key",
        "patient_birth_date",
        "patient_sex",
        "study_date",
        "study_time",
        "accession_number",
        "study_id",
        "study_description",
        "referring_physician_name_key",
    ),
    "series": (
        "modality",
        "series_description",
        "body_part_examined",
        "performed_procedure_step_start_date",
        "performed_procedure_step_start_time",
    ),
    "instances": (),
}


def upgrade() -> None:
    """Cut what earlier versions took from hostile or broken headers; one pass over the rows, few of which change."""
    connection = op.get_bind()
    for name, key in KEYS.items():
        table = sa.table(name, *(sa.column(column) for column in (key, "attributes", *COLUMNS[name])))
        is_long = sa.func.length(table.c.attributes) > LONG_JSON
        for row_key in connection.execute(sa.select(table.c[key]).where(is_long)).scalars().all():
            of_row = table.c[key] == row_key
            attributes = json.loads(connection.execute(sa.select(table.c.attributes).where(of_row)).scalar_one())
            bounded = json.dumps(_bounded(attributes), ensure_ascii=False, separators=(",", ":"))
            connection.execute(sa.update(table).where(of_row).values(attributes=bounded))
        for column in COLUMNS[name]:
            is_long = sa.func.length(table.c[column]) > MAX_COLUMN
            connection.execute(
                sa.update(table).where(is_long).values({column: sa.func.substr(table.c[column], 1, MAX_COLUMN)})
            )


def _bounded(value: object) -> object:
    """The same JSON with long texts and long lists cut."""
    if isinstance(value, str):
        return value[:MAX_CHARACTERS]
    if isinstance(value, list):
        return [_bounded(item) for item in value[:MAX_VALUES]]
    return {name: _bounded(item) for name, item in value.items()} if isinstance(value, dict) else value
