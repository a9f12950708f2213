"""Connections to the release database: SQLite in WAL mode below home, or PostgreSQL by URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert, inspect, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from hotcold.adapters.release_tables import LAYOUT_VERSION, layout, metadata
from hotcold.domain.errors import DatabaseError

_BUSY_TIMEOUT_S = 5
_CONNECT_TIMEOUT_S = 3
# Layouts that only lack tables and columns, which `prepare` adds.
_UPGRADED_BY_ADDING = frozenset({1, 2, 3, 4})


class Database:
    """An engine with the two kinds of transaction that the project needs.

    Args:
        url: SQLAlchemy URL, `sqlite:///file` or `postgresql+psycopg://…`; a plain `postgresql://` uses psycopg too.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.shown_url = parsed.render_as_string(hide_password=True)
        self._file = Path(parsed.database) if self.is_sqlite and parsed.database else None
        arguments = {"timeout": _BUSY_TIMEOUT_S} if self.is_sqlite else {"connect_timeout": _CONNECT_TIMEOUT_S}
        self._engine = create_engine(parsed, connect_args=arguments, pool_pre_ping=not self.is_sqlite)
        if self.is_sqlite:
            _use_wal(self._engine)

    def prepare(self) -> None:
        """Create what is missing and check the layout; one that only lacks tables and columns is brought up to date.

        Raises:
            DatabaseError: the database cannot be reached or written, or has the layout of another release of hotcold.
        """
        if self._file:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DatabaseError(
                    f"cannot create the folder of {self.shown_url}: {error.strerror}; set HOTCOLD_HOME"
                ) from error
        with self.write() as connection:
            # Two processes that start at once would both create the tables; PostgreSQL has no lock of its own for that.
            if not self.is_sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4203)")
            metadata.create_all(connection)
            found = connection.scalar(select(layout.c.version))
            if found is None:
                connection.execute(insert(layout).values(version=LAYOUT_VERSION))
            elif found in _UPGRADED_BY_ADDING:
                _add_columns(connection)
                connection.execute(update(layout).values(version=LAYOUT_VERSION))
            elif found != LAYOUT_VERSION:
                raise DatabaseError(
                    f"{self.shown_url} has layout {found}; this hotcold needs {LAYOUT_VERSION}: use the hotcold that wrote it, "
                    "or another HOTCOLD_DATABASE_URL"
                )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that takes SQLite's write lock at once, so that it never fails half-way as busy."""
        with self._transaction(write=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, write: bool) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                options = (
                    {"hotcold_write": write}
                    if self.is_sqlite
                    else {"isolation_level": "READ COMMITTED" if write else "REPEATABLE READ"}
                )
                with connection.execution_options(**options).begin():
                    yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise DatabaseError(
                f"the release database {self.shown_url} said: {cause}; check that it runs, and its disk"
            ) from error

    def dispose(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _add_columns(connection: Connection) -> None:
    """Add to each table the columns that it lacks; what rows from before hold there is in the columns' server defaults."""
    compiler = connection.dialect.ddl_compiler(connection.dialect, None)  # type: ignore[arg-type]
    inspector = inspect(connection)
    for table in metadata.sorted_tables:
        present = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in present:
                definition = compiler.get_column_specification(column)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")


def upsert(connection: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Change a row, or insert it; the caller holds a lock that keeps others from doing the same."""
    where = [table.c[name] == value for name, value in key.items()]
    if not connection.execute(update(table).where(*where).values(**values)).rowcount:
        connection.execute(insert(table).values(**key, **values))


class DatabaseClient:
    """What reads and writes the release database, whatever part of it.

    Args:
        url: SQLAlchemy URL; see `Database`.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def prepare(self) -> None:
        """Create what is missing; see `Database.prepare`."""
        self._database.prepare()

    def close(self) -> None:
        """Close all connections."""
        self._database.dispose()


def _use_wal(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        # The driver's own BEGIN comes too late and takes no write lock; `begin` below does it.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("hotcold_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
