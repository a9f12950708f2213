"""What readers of an output follow: the file `SCORES.json`, replaced as a whole, and the pointer of the score store.

Both are projections of the release database. They are repeated by batch runs, rollbacks, the command line and every agent, so
that whoever dies between the database and the file is made up for by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from hotcold.adapters.locks import hold_file
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_store import ScoreStore, StorePointer
from hotcold.adapters.table_folder import DATA, LINEAGE_FILE, TABLES, Folder
from hotcold.domain.errors import BatchError, ReadersBehindError, ScoresError, ScoreStoreError
from hotcold.domain.score_table import Pointer, ScoreTable, store_pointer

POINTER_FILE = LINEAGE_FILE
_LOCK_FILE = ".SCORES.lock"
_LOCK_WAIT_S = 5.0
_ATTEMPTS = 4
_WRITES = 4
# Stands for the score store among the outputs of a model.
STORE = ""

_Shown = Sequence[tuple[Pointer, ScoreTable | None]]


def write_pointer(output_url: str, pointer: Pointer, table: ScoreTable | None) -> Pointer:
    """Let readers of an output see what the pointer says, unless they see something newer.

    On a local disk the file is replaced by a rename, one writer at a time. Elsewhere it is one upload, and an upload cannot be
    made to depend on what stands there in a way that all stores know: another writer's may land between what was read and what
    is written. So each writer reads back, and writes again until it sees its own pointer or a newer one; who has written an
    older one over a newer one learns of that from the release database, see `project_scores`. What remains there: readers
    may see the older one for the time of an upload and a look at the database, and, if its writer dies just then, until the
    next projection, which each agent makes twice a minute.

    Args:
        output_url: folder that readers know; it is there.
        pointer: what the release database says.
        table: the table that it names; None if it names none.

    Returns:
        What readers see now: the pointer, or the one that is newer or another one of the same generation.

    Raises:
        ScoresError: the folder is not there, or cannot be written, or does not keep what is written.
    """
    try:
        folder = Folder(output_url)
        if not folder.is_local:
            return _replace(folder, pointer, table)
        place = Path(folder.path(_LOCK_FILE))
        if not place.parent.is_dir():
            raise ScoresError(f"the output {output_url} is not on this machine, or was deleted; its readers see nothing")
        with hold_file(place, _LOCK_WAIT_S) as is_held:
            if not is_held:
                raise ScoresError(f"another process holds {place} for {_LOCK_WAIT_S:g} s already; end it if it hangs")
            return _replace(folder, pointer, table)
    except (BatchError, OSError) as error:
        raise ScoresError(f"readers of {output_url} do not see what they should yet: {error}") from error


def _replace(folder: Folder, pointer: Pointer, table: ScoreTable | None) -> Pointer:
    content = orjson.dumps(_document(pointer, table), option=orjson.OPT_INDENT_2)
    writes, found = 0, _read_usable(folder)
    while not found or found.generation < pointer.generation:
        if writes == _WRITES:
            seen = f"generation {found.generation}" if found else "no pointer"
            raise ScoresError(
                f"{folder.url} shows {seen} after generation {pointer.generation} was written there {_WRITES} times; end "
                "whoever else writes there, or let readers use another output"
            )
        folder.write(POINTER_FILE, content)
        writes, found = writes + 1, _read_usable(folder)
    return found


def _read_usable(folder: Folder) -> Pointer | None:
    """A file that is no pointer is replaced."""
    content = folder.read(POINTER_FILE)
    try:
        return _parse(content, folder.url) if content is not None else None
    except ScoresError:
        return None


def _document(pointer: Pointer, table: ScoreTable | None) -> dict[str, Any]:
    own = {
        "model": pointer.model,
        "table": pointer.table,
        "data": f"{TABLES}/{pointer.table}/{DATA}" if pointer.table else "",
        "generation": pointer.generation,
        "state": "published" if pointer.table else "empty",
        "reason": pointer.reason,
    }
    lineage = dict(table.lineage) if table else {}
    return {**own, **lineage, **own}


def _parse(content: bytes, output_url: str) -> Pointer:
    try:
        document = orjson.loads(content)
        pointer = Pointer(document["model"], output_url, document["table"], document["generation"], document["reason"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _unreadable(output_url, repr(error)) from error
    texts = (pointer.model, pointer.table, pointer.reason)
    if not all(isinstance(text, str) for text in texts) or type(pointer.generation) is not int:
        raise _unreadable(output_url, f"unexpected values: {pointer}")
    return pointer


def _unreadable(output_url: str, why: str) -> ScoresError:
    return ScoresError(
        f"{output_url}/{POINTER_FILE} cannot be read ({why}); the agent replaces it, or publish the scores again"
    )


def read_pointer(output_url: str) -> Pointer:
    """What readers of an output see.

    Raises:
        ScoresError: nothing was ever published there, or the file cannot be read.
    """
    try:
        folder = Folder(output_url)
        content = folder.read(POINTER_FILE)
    except (BatchError, OSError) as error:
        raise ScoresError(f"{output_url}/{POINTER_FILE} cannot be read: {error}") from error
    if content is None:
        raise ScoresError(f"{output_url} has no {POINTER_FILE}: no scores were published there; see `hotcold scores list`")
    return _parse(content, folder.url)


def open_table(output_url: str) -> str:
    """URL of the folder with the Parquet files of the table that readers see. It never changes; ask again for a newer one.

    Raises:
        ScoresError: no table is published there.
    """
    pointer = read_pointer(output_url)
    if not pointer.table:
        raise ScoresError(f"{output_url} shows no table: {pointer.reason}; see `hotcold scores list {pointer.model}`")
    return f"{pointer.output}/{TABLES}/{pointer.table}/{DATA}"


def project_scores(database: ScoreDatabase, model: str, store: ScoreStore | None = None) -> tuple[Pointer, ...]:
    """Bring the pointer files of all outputs of a model, and the score store, in line with the release database.

    The database is read once more at the end: where no lock can be held, whoever was late has overwritten what is newer, and
    the one who was late is the one who can know. What is newer stood in the database before it stood anywhere else.

    Args:
        database: says what readers should see.
        model: registered model name.
        store: where live lookups read; None leaves it alone.

    Returns:
        What readers see now, by output.

    Raises:
        DatabaseError: the release database cannot be reached.
        ReadersBehindError: some readers do not see what they should; all others do. Says who and why.
        ScoresError: another release database feeds the same readers, or the pointers do not stand still.
    """
    shown, met = database.read_shown(model), -1
    for _ in range(_ATTEMPTS):
        met, failures = _project_once(shown, model, store)
        before, shown = shown, database.read_shown(model)
        if _pointers(shown) != _pointers(before):
            # Somebody was quicker, and what was just written may have replaced what is newer.
            continue
        if met < 0:
            if failures:
                raise ReadersBehindError(failures)
            return _pointers(shown)
        # Not somebody who was quicker, then: generations of a release database that is gone.
        database.outrun(model, met)
        shown = database.read_shown(model)
    raise ScoresError(_overtaken(model, met))


def _pointers(shown: _Shown) -> tuple[Pointer, ...]:
    return tuple(pointer for pointer, _ in shown)


def _overtaken(model: str, met: int) -> str:
    if met < 0:
        return f"the pointers of {model} moved {_ATTEMPTS} times while readers were told of them; the agent tells them the last"
    return f"readers of {model} see generation {met}, which another release database wrote; let one of them feed it"


def _project_once(shown: _Shown, model: str, store: ScoreStore | None) -> tuple[int, dict[str, str]]:
    """Highest generation that did not give way, -1 if all did; and what failed. The store first: it is near and quick."""
    met, failures = -1, {}
    if store is not None and shown:
        try:
            met = _point_store(store, model, shown)
        except ScoreStoreError as error:
            failures[STORE] = str(error)
    for pointer, table in shown:
        try:
            found = write_pointer(pointer.output, pointer, table)
        except ScoresError as error:
            failures[pointer.output] = str(error)
            continue
        if (found.generation, found.table) != (pointer.generation, pointer.table):
            met = max(met, found.generation)
    return met, failures


def _point_store(store: ScoreStore, model: str, shown: _Shown) -> int:
    """Generation that did not give way, or -1.

    Raises:
        ScoreStoreError: the store does not hold the table; lookups then find nothing, rather than one that was taken back.
    """
    pointers = [pointer for pointer, _ in shown]
    # Of a table that was written to several outputs, the one that feeds the store.
    tables = {table.id: table for _, table in sorted(shown, key=lambda pair: bool(pair[1] and pair[1].in_store)) if table}
    chosen = store_pointer(pointers, tables)
    is_there = not chosen or store.has(model, chosen)
    # The generation of the last move of any output: one that is emptied may send the store back to an older table.
    wanted = StorePointer(chosen if is_there else "", max(pointer.generation for pointer in pointers))
    found = wanted if store.point(model, wanted) else store.read_pointer(model)
    if found != wanted:
        return found.generation
    if not is_there:
        raise ScoreStoreError(
            f"table {chosen} of {model} is not in the score store of this node; live lookups find no score until it is "
            "scored again"
        )
    return -1
