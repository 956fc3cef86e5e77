"""Alembic's entry: migrate on the connection, and in the transaction, that `Database.migrate` hands over."""

from alembic import context

from dicom_node.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
