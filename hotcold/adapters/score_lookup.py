"""What a scorer asks for the published score of an entity."""

from __future__ import annotations

from typing import Protocol

from hotcold.adapters.score_store import StoredScore, is_redis


class _Reader(Protocol):
    inline: bool

    def find(self, entity: str) -> StoredScore | None: ...


class ScoreLookup:
    """Scores of one model, always of the table that is published at the moment.

    Args:
        url: of a Redis server, or the folder of a store on a local disk; nothing is opened before the first lookup.
        model: registered model name.
    """

    def __init__(self, url: str, model: str) -> None:
        self._reader = _reader(url, model)

    @property
    def inline(self) -> bool:
        """A lookup never waits, so it may be made in an event loop, always by the same thread; otherwise by any thread."""
        return self._reader.inline

    def find(self, entity: str) -> StoredScore | None:
        """The score of an entity.

        Args:
            entity: its id as text.

        Returns:
            The score and where it is from; None if the table has no such entity.

        Raises:
            NoScoresError: no table is published, or it cannot be used.
            ScoreStoreError: the store does not answer now.
        """
        return self._reader.find(entity)


def _reader(url: str, model: str) -> _Reader:
    if is_redis(url):
        from hotcold.adapters.redis_lookup import RedisLookup

        return RedisLookup(url, model)
    from hotcold.adapters.lmdb_lookup import LmdbLookup

    return LmdbLookup(url, model)
