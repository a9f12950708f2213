"""Joins files of late labels to the requests of the prediction log, and keeps what was found in the label store.

Every step may be repeated: what the store has already is not written again. So a run that is killed, or a file that is read
again because some of its requests were not logged yet, doubles nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hotcold.adapters.batch_input import Listing, inspect_files, list_input
from hotcold.adapters.label_files import LabelReader, LabelRows
from hotcold.adapters.label_match import Matches, match_ids, match_times, places_among
from hotcold.adapters.label_state import FileState, file_key, hold_labels, read_state, write_state
from hotcold.adapters.label_store import MARGIN_S, SCHEMA, LabelStore, new_run
from hotcold.adapters.prediction_reader import PredictionReader
from hotcold.domain.batch_plan import FileFormat, InputFile, cut_files
from hotcold.domain.label_counts import LabelCounts, LabelJoin
from hotcold.domain.label_source import LabelSource
from hotcold.domain.labels import Claims, settle

_HOUR_S, _DAY_S = 3600.0, 86_400.0
# A CSV file's rows are counted by their usual length, and those of labels are short.
_PART_ROWS: dict[FileFormat, int] = {"parquet": 1 << 20, "csv": 1 << 18}


class LabelJoiner:
    """Joins labels of one model.

    Args:
        source: where they come from.
        reader: of the model's log.
        store: takes what is joined.
        now_s: seconds since the epoch.
    """

    def __init__(self, source: LabelSource, reader: PredictionReader, store: LabelStore, now_s: float) -> None:
        self._source = source
        self._reader = reader
        self._store = store
        self._now_s = now_s
        self._run = new_run()
        self._written = 0

    def join(self, keep_days: int, is_remembered: bool = True) -> LabelJoin:
        """Join what was not joined yet; one at a time.

        Args:
            keep_days: days for which answers are kept, and with them their labels.
            is_remembered: scheduled runs take labels from here from now on.

        Raises:
            LabelError: another join of the model is under way, or what it remembers is damaged.
            BadInputError: there are no files.
            UnreachableInputError: a disk or network does not give a file.
            OSError: the disk does not take the labels; what was joined before stays as it is.
        """
        with hold_labels(self._store.folder):
            oldest_s = _oldest_kept_s(keep_days, self._now_s)
            self._store.delete_old(oldest_s)
            state = read_state(self._store.folder)
            listing = list_input(self._source.labels_url)
            files = {file: state.of(self._source, file, self._now_s) for file in listing.files}
            todo = {file: one for file, one in files.items() if not one.is_done}
            counts, problems, todo = self._join_files(todo, listing.format)
            files |= todo
            known = {file_key(self._source, file): one for file, one in files.items()}
            source = self._source if is_remembered else state.source
            write_state(self._store.folder, replace(state.with_files(known, oldest_s), source=source))
        return LabelJoin(len(files), sum(one.is_done for one in files.values()), counts, problems)

    def _join_files(
        self, todo: dict[InputFile, FileState], file_format: FileFormat
    ) -> tuple[LabelCounts, dict[str, str], dict[InputFile, FileState]]:
        rows_per_part = _PART_ROWS[file_format]
        files = inspect_files(Listing(tuple(todo), file_format), rows_per_part)
        states = list(todo.values())
        labels = LabelReader(self._source, file_format, files, [round(one.seen_s * 1e6) for one in states])
        labels.problems |= {file.url: file.problem for file in files if file.problem}
        counts, unknown = LabelCounts(), np.zeros(len(files), np.int64)
        for part in cut_files(files, file_format, rows_per_part):
            found, missed = self._join_rows(labels.read(part))
            counts += found
            unknown += np.bincount(missed, minlength=len(files))
        after = {
            listed: replace(one, is_done=file.url not in labels.problems and (not missed or self._is_too_old(one)))
            for (listed, one), file, missed in zip(todo.items(), files, unknown.tolist(), strict=True)
        }
        return counts + labels.counts, labels.problems, after

    def _is_too_old(self, state: FileState) -> bool:
        return self._now_s - state.seen_s >= self._source.max_wait_h * _HOUR_S

    def _join_rows(self, rows: LabelRows) -> tuple[LabelCounts, NDArray[np.int32]]:
        """Counts, and for each row whose request is not known the number of its file."""
        unknown: list[NDArray[np.int64]] = [np.array([], np.int64)]
        counts = LabelCounts()
        for matches in self._match(rows, unknown):
            counts += self._keep(matches)
        missed = np.concatenate(unknown)
        return counts + LabelCounts(unknown=len(missed)), rows.files[missed]

    def _match(self, rows: LabelRows, unknown: list[NDArray[np.int64]]) -> Iterator[Matches]:
        if self._source.is_timed:
            yield from match_times(rows, self._reader, self._source.tolerance_s, unknown)
        elif len(rows.keys):
            matches, missed = match_ids(rows, self._reader)
            unknown.append(missed)
            yield matches

    def _keep(self, matches: Matches) -> LabelCounts:
        """Write what the store has not."""
        if not len(matches.request_ids):
            return LabelCounts()
        settled = settle(matches.claims, *self._stored(matches))
        chosen = np.concatenate([settled.first, settled.second])
        labels = np.concatenate([settled.first_labels, settled.second_labels])
        delays = (matches.known_us - matches.arrived_us) / 1e6
        if len(chosen):
            self._store.write(_claims_table(matches, chosen, labels, delays), self._run, self._written)
            self._written += 1
        early = int(np.count_nonzero(delays[settled.joined] < 0))
        return settled.counts + LabelCounts(early=early, repeated=matches.repeated)

    def _stored(self, matches: Matches) -> tuple[Claims, NDArray[np.bool_]]:
        """What the store has of these requests, and whether it came with this run."""
        stored, is_own = Claims.none(len(matches.request_ids)), np.zeros(len(matches.request_ids), bool)
        since_s, until_s = matches.arrived_us.min() / 1e6 - MARGIN_S, matches.arrived_us.max() / 1e6 + MARGIN_S
        for name, table in self._store.claims(since_s, until_s):
            place = places_among(table["request_id"], matches.request_ids)
            ours = place >= 0
            labels = np.asarray(table["label"], np.float32)[ours]
            np.fmin.at(stored.low, place[ours], labels)
            np.fmax.at(stored.high, place[ours], labels)
            is_own[place[ours]] |= name.run == self._run
        return stored, is_own


def delete_old_labels(store: LabelStore, keep_days: int, now_s: float) -> list[str]:
    """Delete the labels of answers that are deleted, too.

    Args:
        store: of one model.
        keep_days: days for which answers are kept.
        now_s: seconds since the epoch.

    Returns:
        Names of the files.

    Raises:
        LabelError: a join of the model is under way.
    """
    with hold_labels(store.folder):
        return store.delete_old(_oldest_kept_s(keep_days, now_s))


def _oldest_kept_s(keep_days: int, now_s: float) -> float:
    return (now_s // _DAY_S - keep_days) * _DAY_S


def _claims_table(
    matches: Matches, chosen: NDArray[np.int64], labels: NDArray[np.float32], delays_s: NDArray[np.float64]
) -> pa.Table:
    values = {
        "request_id": matches.request_ids.take(pa.array(chosen)),
        "at": pa.array(matches.arrived_us[chosen]),
        "label": pa.array(labels),
        "known_at": pa.array(matches.known_us[chosen]),
        "delay_s": pa.array(delays_s[chosen].astype(np.float32)),
    }
    return pa.table({name: values[name].cast(SCHEMA.field(name).type) for name in SCHEMA.names}, SCHEMA)
