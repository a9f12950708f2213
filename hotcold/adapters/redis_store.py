"""The score store on a Redis server: a hash per table, and a hash that is the pointer of a model."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis

from hotcold.adapters.redis_lookup import GENERATION_FIELD, HEADER_FIELD, TABLE_FIELD, RedisKeys
from hotcold.adapters.score_store import StoreHeader, StorePointer, check_name, not_there, pointed_at
from hotcold.adapters.table_blocks import Block, TableBlocks
from hotcold.domain.errors import ScoreStoreError

if TYPE_CHECKING:
    # Needs PyArrow, which whoever only points and reads does without.
    from hotcold.adapters.score_index import Merged

_TIMEOUT_S = 10.0
_BATCH_BYTES = 2 << 20
# What a writer that was killed has left goes away by itself.
_UNFINISHED_S = 3600

_POINT = """
local there = redis.call('HMGET', KEYS[1], 'table', 'generation')
local generation, wanted = tonumber(there[2] or '-1'), tonumber(ARGV[2])
if wanted <= generation then
  return (wanted == generation and (there[1] or '') == ARGV[1]) and 1 or 0
end
if ARGV[1] ~= '' and redis.call('EXISTS', KEYS[2]) == 0 then return -1 end
redis.call('HSET', KEYS[1], 'table', ARGV[1], 'generation', ARGV[2])
return 1
"""
# What is not revealed yet is the only key that may expire, so that a server that is short of memory drops it, of all things,
# and the next batch begins it anew. Whether all of it is there is known only where nothing happens in between.
_REVEAL = """
local seen = redis.call('HLEN', KEYS[1])
if seen ~= tonumber(ARGV[2]) then return seen end
redis.call('HSET', KEYS[1], 'written', redis.call('TIME')[1])
redis.call('PERSIST', KEYS[1])
redis.call('UNLINK', KEYS[2])
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('SADD', KEYS[3], ARGV[1])
return -1
"""
# A table that does not say when it was written was made before tables did.
_DELETE = """
if redis.call('HGET', KEYS[1], 'table') == ARGV[1] then return -1 end
if tonumber(redis.call('HGET', KEYS[2], 'written') or '0') >= tonumber(ARGV[2]) then return 0 end
redis.call('UNLINK', KEYS[2])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
"""
_POINTED_AT, _DELETED = -1, 1
# After everything that has a time; in figures, which Lua reads everywhere.
_NEVER = float(1 << 53)


class RedisScoreStore:
    """Implements `ScoreStore`.

    Args:
        url: of the server; nothing is opened before the first call.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)

    def write(self, header: StoreHeader, merged: Iterable[Merged]) -> StoreHeader:
        """See `ScoreStore`."""
        keys, blocks = RedisKeys(header.model), TableBlocks(header)
        temporary, records = f"{keys.table(header.table_id)}:{uuid.uuid4().hex[:12]}", 1
        try:
            # What reads the fragments raises errors of its own, which must not look like those of the server.
            for batch in blocks.batches(merged, _BATCH_BYTES):
                with _errors(f"write table {header.table_id}", blocks.needed_bytes):
                    self._append(temporary, batch)
                records += len(batch)
            with _errors(f"write table {header.table_id}", blocks.needed_bytes):
                self._append(temporary, [(HEADER_FIELD, blocks.stored().to_bytes())])
                self._reveal(keys, temporary, blocks, records)
        except BaseException:
            self._clean(temporary)
            raise
        return blocks.stored().header

    def _append(self, key: str, batch: list[Block]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for name, content in batch:
                pipeline.hset(key, name, content)
            pipeline.expire(key, _UNFINISHED_S)
            # Errors of a pipeline quote its command, and these are long and not text.
            for answer in pipeline.execute(raise_on_error=False):
                if isinstance(answer, redis.RedisError):
                    raise answer

    def _reveal(self, keys: RedisKeys, temporary: str, blocks: TableBlocks, records: int) -> None:
        """Replace the table by the new one, unless some of that is gone."""
        table_id = blocks.header.table_id
        names = [temporary, keys.table(table_id), keys.tables]
        seen: Any = self._client.eval(_REVEAL, len(names), *names, table_id, str(records))
        if seen >= 0:
            raise ScoreStoreError(
                f"cannot write table {table_id}: the server holds {seen:,} of its {records:,} records. It drops what is not "
                f"finished yet when its memory is full and its maxmemory-policy is a volatile-* one, and when nothing came for "
                f"{_UNFINISHED_S / 60:g} minutes; give it about {blocks.needed_bytes / 1e6:,.0f} MB more, or the policy "
                "noeviction, and run again"
            )

    def _clean(self, temporary: str) -> None:
        try:
            self._client.unlink(temporary)
        except redis.RedisError:
            # It goes away by itself later.
            return

    def has(self, model: str, table_id: str) -> bool:
        """See `ScoreStore`."""
        check_name(table_id)
        with _errors(f"look for table {table_id}"):
            return bool(self._client.exists(_keys(model).table(table_id)))

    def point(self, model: str, pointer: StorePointer) -> bool:
        """See `ScoreStore`."""
        keys = _keys(model)
        with _errors(f"point at table {pointer.table_id or 'none'}"):
            names = [keys.pointer, keys.table(pointer.table_id)]
            done: Any = self._client.eval(_POINT, len(names), *names, pointer.table_id, str(pointer.generation))
        if done == -1:
            raise not_there(model, pointer.table_id)
        return bool(done)

    def read_pointer(self, model: str) -> StorePointer:
        """See `ScoreStore`."""
        with _errors(f"read the pointer of {model}"):
            table, generation = self._read_pointer(_keys(model))
        return StorePointer((table or b"").decode(), int(generation or -1))

    def _read_pointer(self, keys: RedisKeys) -> Any:
        return self._client.hmget(keys.pointer, [TABLE_FIELD, GENERATION_FIELD])

    def delete(self, model: str, table_id: str) -> None:
        """See `ScoreStore`."""
        if self._delete(model, table_id, _NEVER) == _POINTED_AT:
            raise pointed_at(model, table_id)

    def delete_older(self, model: str, table_id: str, before: float) -> bool:
        """See `ScoreStore`; the server's clock says when a table was written."""
        return self._delete(model, table_id, before) == _DELETED

    def _delete(self, model: str, table_id: str, before: float) -> int:
        check_name(table_id)
        keys = _keys(model)
        with _errors(f"delete table {table_id}"):
            names = [keys.pointer, keys.table(table_id), keys.tables]
            done: Any = self._client.eval(_DELETE, len(names), *names, table_id, f"{before:.3f}")
        return int(done)

    def tables(self, model: str) -> tuple[str, ...]:
        """See `ScoreStore`."""
        with _errors(f"list the tables of {model}"):
            found: Any = self._client.smembers(_keys(model).tables)
        return tuple(sorted(name.decode() for name in found))


def _keys(model: str) -> RedisKeys:
    check_name(model)
    return RedisKeys(model)


@contextmanager
def _errors(what: str, needed_bytes: int = 0) -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        # The URL is not named: it may hold a password.
        need = f"; the table needs about {needed_bytes / 1e6:,.0f} MB of the server's memory" if needed_bytes else ""
        raise ScoreStoreError(
            f"cannot {what}: Redis said {error}{need}; see that the server of HOTCOLD_SCORE_STORE_URL runs and has room"
        ) from error
