"""Alembic's environment, the same for every package: it runs in the transaction that `migrate` opened."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    transactional_ddl=False,
)
context.run_migrations()
