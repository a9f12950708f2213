"""Batch scores by entity: `GET /models/{model}/scores/{entity}` answers what the published score table holds."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import unquote_to_bytes

import orjson
from starlette.types import Scope

from hotcold.adapters.score_lookup import ScoreLookup
from hotcold.adapters.score_store import StoredScore
from hotcold.domain.errors import InvalidInputError, MalformedBodyError, NoScoresError, NotFoundError, ScoreStoreError
from services.exchange import Answer, Exchange
from services.problem import UnavailableError

STORE_VARIABLE = "HOTCOLD_SCORE_STORE"
MAX_ENTITY_CHARACTERS = 512
_THREADS = 4
# With a server that hangs, those who wait longest wait 0.4 s; more are refused at once.
_MAX_WAITING = 32
_RETRY_AFTER_S = 1
_log = logging.getLogger("hotcold.scorer")


@dataclass(eq=False)
class Lookups:
    """Lookups of this process.

    Args:
        lookup: of the store.
    """

    lookup: ScoreLookup
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "score-lookup"))
    _waiting: int = 0

    async def find(self, entity: str) -> StoredScore | None:
        """The score of an entity; in this thread if the store is a local file, which takes some microseconds.

        Raises:
            NoScoresError: no table is published.
            ScoreStoreError: the store does not answer.
        """
        if self.lookup.inline:
            return self.lookup.find(entity)
        if self._waiting >= _MAX_WAITING:
            raise ScoreStoreError(f"{self._waiting} lookups are waiting for the score store already; try again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self.lookup.find, entity)
        finally:
            self._waiting -= 1


@cache
def open_lookups(model: str) -> Lookups | None:
    """Lookups of a model in the store that the agent named; None if it named none."""
    url = os.environ.get(STORE_VARIABLE, "")
    return Lookups(ScoreLookup(url, model)) if url else None


async def answer_score(model: str, scope: Scope, exchange: Exchange) -> Answer:
    """The answer to one lookup.

    Args:
        model: registered model name.
        scope: of the request.
        exchange: takes down when the store was asked.

    Raises:
        RequestError: the entity is no text or too long, has no score, nothing is published, or the store does not answer.
    """
    entity = _entity(scope)
    lookups = open_lookups(model)
    if lookups is None:
        raise NotFoundError(f"no score store is set up for {model!r}; set HOTCOLD_SCORE_STORE_URL and start the replicas again")
    exchange.decoded = time.perf_counter()
    try:
        found = await lookups.find(entity)
    except NoScoresError as error:
        raise NotFoundError(str(error)) from error
    except ScoreStoreError as error:
        _log.warning("score store unreachable request_id=%s reason=%s", exchange.request_id, error)
        raise UnavailableError(str(error), _RETRY_AFTER_S) from error
    exchange.scored = time.perf_counter()
    if found is None:
        raise NotFoundError(f"the published score table of {model!r} has no entity {entity[:80]!r}")
    return _answer(found)


def _entity(scope: Scope) -> str:
    entity: str = scope["path_params"]["entity"]
    if "\ufffd" in entity:
        # What the server puts where bytes are no UTF-8; the caller may mean that very character.
        try:
            unquote_to_bytes(scope["raw_path"]).decode()
        except UnicodeDecodeError as error:
            raise MalformedBodyError("the entity in the path is not UTF-8; encode it so, then by percent signs") from error
    if not 1 <= len(entity) <= MAX_ENTITY_CHARACTERS:
        raise InvalidInputError(
            f"the entity has {len(entity)} characters; allowed are 1 to {MAX_ENTITY_CHARACTERS}", field="entity"
        )
    return entity


def _answer(found: StoredScore) -> Answer:
    header = found.header
    body = orjson.dumps(
        {
            "model": header.model,
            "entity": found.entity,
            "score": found.score,
            "model_version": header.model_version,
            "registry_version": header.registry_version,
            "scored_at": header.scored_at,
            "table": header.table_id,
        }
    )
    return Answer(
        body,
        headers=[
            (b"content-type", b"application/json"),
            (b"x-score-source", b"batch"),
            # Those of the package that made the score, which need not be the one of this replica.
            (b"x-model-version", header.model_version.encode()),
            (b"x-package-digest", header.digest[:12].encode()),
        ],
    )
