"""Which score table readers see: rules for publishing one, moving on with a promotion, and going back with an undo.

A table is every score of one batch run: complete, immutable, made by one package from one input. An *output* is a place that
readers know; its pointer names one table of a model, or none. Pointers follow the release: readers see tables of the champion
as soon as there is one, and never a retracted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hotcold.domain.package import PackageRef


class TableState(StrEnum):
    """What became of a complete table."""

    STAGED = "staged"
    """Passed the quality gate; its package was not the champion, so nobody sees it yet."""
    PUBLISHED = "published"
    """Is or was what readers see."""
    REFUSED = "refused"
    """Did not pass the quality gate."""
    RETRACTED = "retracted"
    """Taken back, by an undo or by a person; never shown again unless it is scored again."""


USABLE = frozenset({TableState.STAGED, TableState.PUBLISHED})


@dataclass(frozen=True)
class ScoreTable:
    """One complete table.

    Args:
        id: names it within the output; follows from input, package and parameters, so a run that is repeated has the same.
        model: registered model name.
        output: URL of the folder that readers know.
        package: what scored it.
        input_url: what was scored.
        input_fingerprint: SHA-256 of names, sizes and versions of the input's files.
        rows: rows with a score.
        in_store: the score store holds it too.
        scored_at: when it was complete, seconds since the epoch.
        parameters: of the run, as JSON values, to score the next input with.
        state: what became of it.
        reason: why it is in this state.
        lineage: the content of its `SCORES.json`.
    """

    id: str
    model: str
    output: str
    package: PackageRef
    input_url: str
    input_fingerprint: str
    rows: int
    in_store: bool
    scored_at: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    state: TableState = TableState.STAGED
    reason: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Readers may see it."""
        return self.state in USABLE


@dataclass(frozen=True)
class Pointer:
    """What readers of one output see.

    Args:
        model: registered model name.
        output: URL of the folder that readers know.
        table: id of the table; empty if there is none to show.
        generation: grows with each change of any pointer of the model, so that an older view never overwrites a newer one.
        reason: why it points there.
    """

    model: str
    output: str
    table: str = ""
    generation: int = 0
    reason: str = ""


def refuse_publication(table: ScoreTable, champion: PackageRef | None) -> str:
    """Why a table may not be shown now; empty if it may.

    Args:
        table: complete, as recorded.
        champion: package that serves; None if the model was never released.
    """
    if table.state is TableState.REFUSED:
        return f"table {table.id} did not pass the quality gate: {table.reason}"
    if table.state is TableState.RETRACTED:
        return f"table {table.id} was taken back: {table.reason}"
    if champion is None:
        return f"{table.model} has no champion yet; the table is shown when {table.package.tag} is released"
    if champion.digest != table.package.digest:
        return f"{table.package.tag} is not the champion, {champion.tag} is; the table is shown when it is released"
    return ""


def choose_table(tables: Sequence[ScoreTable], champion: PackageRef | None, current: str) -> str:
    """The table that readers of one output should see after a release moved or a table was taken back.

    Publication itself points at a new table; this follows the release. A promotion moves readers only to a table of the same
    input, so that they never go back in time with it; an undo takes whatever the champion before had last.

    Args:
        tables: all tables of the output, in any order.
        champion: package that serves; None if the model was never released.
        current: id of the table that readers see; empty if none.

    Returns:
        Id of a usable table, or empty.
    """
    usable = [table for table in tables if table.usable]
    seen = next((table for table in usable if table.id == current), None)
    ours = [table for table in usable if champion and table.package.digest == champion.digest]
    if seen is not None:
        if seen in ours:
            return seen.id
        same_input = [table for table in ours if table.input_fingerprint == seen.input_fingerprint]
        return _latest(same_input) or seen.id
    return _latest(ours) or _latest(table for table in usable if table.state is TableState.PUBLISHED)


def choose_example(tables: Iterable[ScoreTable]) -> ScoreTable | None:
    """The table that the next one is made like, where nobody says otherwise: what was shown last, if anything ever was.

    Args:
        tables: of one model.

    Returns:
        The latest of those that were published and not taken back; else of those that may be; else of all; None of none. Of
        several outputs, the one that live lookups read.
    """
    ranks = {TableState.PUBLISHED: 2, TableState.STAGED: 1}
    return max(tables, key=lambda table: (ranks.get(table.state, 0), table.in_store, table.scored_at), default=None)


def _latest(tables: Iterable[ScoreTable]) -> str:
    newest = max(tables, key=lambda table: (table.scored_at, table.id), default=None)
    return newest.id if newest else ""


def tables_to_delete(
    tables: Sequence[ScoreTable], current: str, champion: PackageRef | None, previous: PackageRef | None, keep: int
) -> tuple[ScoreTable, ...]:
    """What retention removes of one output.

    Always kept: the table that readers see, the latest usable one of the champion, and the latest usable one of the champion
    before, so that an undo has somewhere to go.

    Args:
        tables: all tables of the output.
        current: id of the table that readers see; empty if none.
        champion: package that serves.
        previous: the champion before, kept warm.
        keep: how many of the latest tables stay in any case, at least 1.

    Returns:
        The others, oldest first.
    """
    kept = {current} | {table.id for table in sorted(tables, key=lambda t: (t.scored_at, t.id))[-keep:]}
    for package in (champion, previous):
        if package:
            kept.add(_latest(table for table in tables if table.usable and table.package.digest == package.digest))
    gone = [table for table in tables if table.id not in kept]
    return tuple(sorted(gone, key=lambda table: (table.scored_at, table.id)))


def store_pointer(pointers: Sequence[Pointer], tables: Mapping[str, ScoreTable]) -> str:
    """The table that live lookups of a model read: of all outputs that feed the store, the one that moved last.

    Args:
        pointers: of one model.
        tables: those the pointers name, by id.

    Returns:
        Its id, or empty.
    """
    fed = [pointer for pointer in pointers if pointer.table in tables and tables[pointer.table].in_store]
    return max(fed, key=lambda pointer: pointer.generation).table if fed else ""
