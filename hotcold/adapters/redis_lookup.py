"""Reads scores from a Redis server: pointer, header and block in one transaction, so that an answer is never mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from hotcold.adapters.score_store import StoredScore, StoredTable
from hotcold.domain.errors import NoScoresError, ScoreStoreError
from hotcold.domain.score_blocks import find_score

TABLE_FIELD, GENERATION_FIELD, HEADER_FIELD = "table", "generation", b"header"
_TIMEOUT_S = 0.05
# Each switch of tables meanwhile costs one.
_ATTEMPTS = 10
# One table at one moment: between two commands, it could be replaced and deleted.
_PUBLISHED = """
local table = redis.call('HGET', KEYS[1], 'table')
if not table or table == '' then return {'', ''} end
return {table, redis.call('HGET', ARGV[1] .. table, 'header') or ''}
"""


@dataclass(frozen=True)
class RedisKeys:
    """Names of a model's keys. The braces keep them together in a cluster.

    Args:
        model: registered model name.
    """

    model: str

    @property
    def pointer(self) -> str:
        """A hash: table and generation."""
        return f"hotcold:scores:{{{self.model}}}:pointer"

    @property
    def tables(self) -> str:
        """A set: ids of the complete tables."""
        return f"hotcold:scores:{{{self.model}}}:tables"

    def table(self, table_id: str) -> str:
        """A hash: blocks by name, and the header."""
        return f"hotcold:scores:{{{self.model}}}:table:{table_id}"


@dataclass(frozen=True)
class _Known:
    """The table that was seen last, with the header as it was stored."""

    stored: StoredTable
    raw: bytes


class RedisLookup:
    """Scores of one model; for any number of threads.

    Args:
        url: of the server.
        model: registered model name.
    """

    inline = False

    def __init__(self, url: str, model: str) -> None:
        # A connection that the server has closed meanwhile is made anew; what takes too long is not tried again.
        once_more = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        self._client = redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=once_more)
        self._model = model
        self._keys = RedisKeys(model)
        self._known: _Known | None = None

    def find(self, entity: str) -> StoredScore | None:
        """See `ScoreLookup.find`."""
        try:
            for _ in range(_ATTEMPTS):
                known = self._known
                if known is None:
                    self._known = self._read_known()
                    continue
                found = self._ask(known, entity)
                if found is not None:
                    return found[0]
                self._known = None
        except redis.RedisError as error:
            raise ScoreStoreError(f"the score store does not answer: {type(error).__name__}; try again") from error
        raise ScoreStoreError(f"the scores of {self._model} are being replaced; try again")

    def _ask(self, known: _Known, entity: str) -> tuple[StoredScore | None] | None:
        """One round trip; None if another table, or none, is published by now."""
        header = known.stored.header
        place = known.stored.locate(entity)
        name, key = place or (HEADER_FIELD, b"")
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.hget(self._keys.pointer, TABLE_FIELD)
            pipeline.hmget(self._keys.table(header.table_id), [HEADER_FIELD, name])
            current, (raw, block) = _executed(pipeline)
        if current != header.table_id.encode() or raw != known.raw:
            return None
        score = find_score(block, key) if place and block is not None else None
        return (None if score is None else StoredScore(entity, score, header),)

    def _read_known(self) -> _Known:
        answer: Any = self._client.eval(_PUBLISHED, 1, self._keys.pointer, self._keys.table(""))
        table_id, raw = answer[0].decode(), answer[1]
        if not table_id:
            raise NoScoresError(f"no scores of {self._model} are published")
        if not raw:
            raise NoScoresError(f"table {table_id} of {self._model} is published but gone; publish it again")
        try:
            return _Known(StoredTable.from_bytes(raw), raw)
        except ScoreStoreError as error:
            raise NoScoresError(f"table {table_id} of {self._model} is published but cannot be used: {error}") from error


def _executed(pipeline: Any) -> tuple[Any, Any]:
    pointer, fields = pipeline.execute()
    return pointer, fields
