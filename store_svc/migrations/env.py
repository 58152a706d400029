"""Alembic's entry point. Uses the connection and the transaction of store_svc.migration."""

from alembic import context

from store_svc.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
