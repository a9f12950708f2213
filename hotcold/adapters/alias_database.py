"""What was seen of the alias `candidate`, kept in the release database beside the releases that it is compared with."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from hotcold.adapters import release_tables as t
from hotcold.adapters.database import DatabaseClient
from hotcold.adapters.desired_state import read_model_plan
from hotcold.domain.alias_watch import AliasWatch, ReleaseHistory, sight


class AliasDatabase(DatabaseClient):
    """The watches over the alias, one per model.

    Args:
        url: SQLAlchemy URL; see `Database`.
    """

    def add_sight(self, model: str, version: int | None, at: float) -> AliasWatch:
        """Add one sight of the alias to what is known; of two at once, one comes after the other.

        Args:
            model: registered model name.
            version: version that carried the alias; None if none did.
            at: when that was so, seconds since the epoch.

        Returns:
            What is known now.
        """
        try:
            return self._add_sight(model, version, at)
        except IntegrityError:
            # On PostgreSQL two may both find no row to lock; the one that came second finds it now.
            return self._add_sight(model, version, at)

    def _add_sight(self, model: str, version: int | None, at: float) -> AliasWatch:
        with self._database.write() as connection:
            known = _read(connection, model, lock=True)
            watch = sight(known, model, version, at)
            if known is None:
                connection.execute(insert(t.alias_watches).values(**asdict(watch)))
            else:
                changed = update(t.alias_watches).where(t.alias_watches.c.model == model)
                connection.execute(changed.values(**asdict(watch)))
        return watch

    def read_watch(self, model: str) -> AliasWatch | None:
        """What is known of the alias of a model; None if it was never looked at."""
        with self._database.read() as connection:
            return _read(connection, model)

    def read_watched(self) -> tuple[str, ...]:
        """Models that were ever looked at, sorted."""
        with self._database.read() as connection:
            return tuple(connection.scalars(select(t.alias_watches.c.model).order_by(t.alias_watches.c.model)))

    def write_answer(self, watch: AliasWatch, answer: str) -> None:
        """Say what was made of a setting of the alias, unless it was set anew meanwhile.

        Args:
            watch: the setting.
            answer: for people; not empty.
        """
        setting = (t.alias_watches.c.model == watch.model, t.alias_watches.c.set_at == watch.set_at)
        with self._database.write() as connection:
            connection.execute(update(t.alias_watches).where(*setting).values(answer=answer))

    def read_history(self, model: str, version: int) -> ReleaseHistory:
        """What happened to a model's versions, as of one moment.

        Args:
            model: registered model name.
            version: of the alias.
        """
        own = (t.releases.c.model == model, t.releases.c.version == version, t.releases.c.ended_at.is_not(None))
        with self._database.read() as connection:
            plan = read_model_plan(connection, model)
            champion = plan.slot(plan.route.champion).package if plan.route.champion else None
            return ReleaseHistory(
                champion=champion.version if champion else None,
                under_way=connection.scalar(select(t.releases.c.version).where(t.releases.c.active_model == model)),
                ended_at=connection.scalar(
                    select(t.releases.c.ended_at).where(*own).order_by(t.releases.c.ended_at.desc()).limit(1)
                ),
            )


def _read(connection: Connection, model: str, *, lock: bool = False) -> AliasWatch | None:
    query = select(t.alias_watches).where(t.alias_watches.c.model == model)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return AliasWatch(**row) if row else None
