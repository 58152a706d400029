"""Alembic's entry: runs on the connection that store_svc.migration hands it, in its transaction."""

from alembic import context

from store_svc.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
