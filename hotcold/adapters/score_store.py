"""The seam of the score store: where live lookups find the scores of a published table.

Several tables of a model are kept at once and a pointer names the one that readers see, so that publishing and undoing are
one small write. Pointers carry a generation, and an older one never overwrites a newer one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from hotcold.domain.errors import ScoreStoreError
from hotcold.domain.score_blocks import WORDS, KeyKind, bucket_of, entity_key

if TYPE_CHECKING:
    # Needs PyArrow, and replicas, which import this module, do not have it.
    from hotcold.adapters.score_index import Merged

LAYOUT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


@dataclass(frozen=True)
class StoreHeader:
    """What the store says of a table.

    Args:
        table_id: names it.
        model: registered model name.
        model_version: semantic version of the package that scored it.
        registry_version: its version in the registry.
        digest: SHA-256 of the package.
        scored_at: when the table was complete, ISO 8601, UTC.
        entities: number of entities; rows of the table while it is being written.
        key_kind: of their ids.
    """

    table_id: str
    model: str
    model_version: str
    registry_version: int
    digest: str
    scored_at: str
    entities: int
    key_kind: KeyKind

    def __post_init__(self) -> None:
        check_name(self.model)
        check_name(self.table_id)
        if self.key_kind not in WORDS:
            raise ScoreStoreError(f"the ids of table {self.table_id} are of kind {self.key_kind!r}; needed is int64 or text")


@dataclass(frozen=True)
class StoredScore:
    """The score of one entity.

    Args:
        entity: as the caller named it.
        score: a float32.
        header: of the table that it is from.
    """

    entity: str
    score: float
    header: StoreHeader


@dataclass(frozen=True)
class StorePointer:
    """What readers of a model see.

    Args:
        table_id: the table; empty if none is published.
        generation: grows with each change; -1 if nobody has ever pointed.
    """

    table_id: str = ""
    generation: int = -1


@dataclass(frozen=True)
class StoredTable:
    """What is kept beside the blocks of a table, and how to find an entity in them.

    Args:
        header: of the table.
        bits: leading bits of a key that name its block.
    """

    header: StoreHeader
    bits: int

    def locate(self, entity: str) -> tuple[bytes, bytes] | None:
        """Name of an entity's block, and its key there; None if no entity of the table is named like that."""
        key = entity_key(entity, self.header.key_kind)
        return None if key is None else (bucket_of(key, self.bits), key)

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return orjson.dumps({"layout": LAYOUT, "bits": self.bits, "header": asdict(self.header)})

    @classmethod
    def from_bytes(cls, content: bytes) -> StoredTable:
        """Inverse of `to_bytes`.

        Raises:
            ScoreStoreError: it is none.
        """
        try:
            document: dict[str, Any] = orjson.loads(content)
            layout, header, bits = document["layout"], StoreHeader(**document["header"]), int(document["bits"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ScoreStoreError(f"a table of the score store has no usable header ({error}); build it again") from error
        if layout != LAYOUT:
            raise ScoreStoreError(
                f"table {header.table_id} of the score store has layout {layout}; this release reads {LAYOUT}: build it again"
            )
        return cls(header, bits)


class ScoreStore(Protocol):
    """Where tables are built and pointed at. Every method raises ScoreStoreError if the store cannot be used."""

    def write(self, header: StoreHeader, merged: Iterable[Merged]) -> StoreHeader:
        """Build a table, or replace the one of this id; nobody sees it before it is complete and pointed at.

        Args:
            header: of the table; `entities` is how many rows it has.
            merged: all its key ranges, in order.

        Returns:
            The header with the number of entities that there are.
        """
        ...

    def has(self, model: str, table_id: str) -> bool:
        """Whether a table is there, complete and readable."""
        ...

    def point(self, model: str, pointer: StorePointer) -> bool:
        """Let readers see a table, at once and all together.

        Args:
            model: registered model name.
            pointer: its table is there, or it names none.

        Returns:
            Whether readers now see what it says; False if a newer pointer, or another one of its generation, is there.

        Raises:
            ScoreStoreError: the table is not there.
        """
        ...

    def read_pointer(self, model: str) -> StorePointer:
        """What readers see."""
        ...

    def delete(self, model: str, table_id: str) -> None:
        """Delete a table; no matter if it is gone already.

        Raises:
            ScoreStoreError: readers see it.
        """
        ...

    def delete_older(self, model: str, table_id: str, before: float) -> bool:
        """Delete a table, unless it was written later or readers see it.

        Args:
            model: registered model name.
            table_id: the table.
            before: seconds since the epoch.

        Returns:
            Whether it was deleted; of one that was gone already, any answer.
        """
        ...

    def tables(self, model: str) -> tuple[str, ...]:
        """Ids of all complete tables, sorted."""
        ...


def delete_unknown_tables(store: ScoreStore, model: str, known: Collection[str], before: float) -> tuple[str, ...]:
    """Delete what runs that were given up, and deletions that were killed, have left in a score store.

    Args:
        store: where tables are.
        model: registered model name.
        known: ids of all tables of the model that the release database knows, whatever their output and state.
        before: seconds since the epoch; what was written later stays, since its run may still be under way.

    Returns:
        Ids of those that were deleted. The table that readers see stays even if nobody knows it.

    Raises:
        ScoreStoreError: the store cannot be used.
    """
    return tuple(name for name in store.tables(model) if name not in known and store.delete_older(model, name, before))


def open_score_store(url: str) -> ScoreStore:
    """The store behind a URL.

    Args:
        url: of a Redis server, or a folder on a local disk.
    """
    if is_redis(url):
        from hotcold.adapters.redis_store import RedisScoreStore

        return RedisScoreStore(url)
    from hotcold.adapters.lmdb_store import LmdbScoreStore

    return LmdbScoreStore(url)


def is_redis(url: str) -> bool:
    """Whether a URL leads to a Redis server."""
    return url.startswith(_REDIS_SCHEMES)


def check_name(name: str) -> None:
    """Make sure that a model or a table can be the name of a file and part of a key.

    Raises:
        ScoreStoreError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ScoreStoreError(f"the name is {name[:80]!r}; allowed are letters, digits, _, . and -, 1 to 128 characters")


def pointed_at(model: str, table_id: str) -> ScoreStoreError:
    """The error of a deletion that would take away what readers see."""
    return ScoreStoreError(
        f"table {table_id} of {model} is the one that readers see; point at another table before deleting it"
    )


def not_there(model: str, table_id: str) -> ScoreStoreError:
    """The error of a pointer that would lead nowhere."""
    return ScoreStoreError(
        f"table {table_id} of {model} is not in the score store, or not readable; build it before pointing at it"
    )
