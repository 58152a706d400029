"""Access to PostgreSQL: the tables, SQLAlchemy Core statements that run on asyncpg, and transactions."""

from store_svc.database.pool import Database, open_database
from store_svc.database.statement import Connection, Record, Statement

__all__ = ["Connection", "Database", "Record", "Statement", "open_database"]
