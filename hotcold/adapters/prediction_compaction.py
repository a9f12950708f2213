"""Compaction of the prediction log: closed segments become Parquet, old answers are deleted.

The archive is complete and on the disk before a segment is deleted, and names the segments that it holds. So a compaction that
is killed anywhere and run again loses nothing and keeps nothing twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

from hotcold.adapters.locks import hold_file
from hotcold.adapters.prediction_archive import ARCHIVE, SUFFIX, TEMPORARY, Archived, day_folder, read_contents, write_archive
from hotcold.adapters.prediction_segments import Segment, is_abandoned, list_segments, read_segment
from hotcold.adapters.segment_file import NEW_PREFIX
from hotcold.domain.errors import PredictionLogError
from hotcold.domain.prediction import SegmentName

LOCK_FILE = ".compaction.lock"
# Segments of a day up to this size go into one archive.
_ARCHIVE_BYTES = 512 * 2**20
# No writer takes as long to begin a segment.
_BEGINNING_S = 60.0


@dataclass
class Compaction:
    """What a compaction did.

    Args:
        archives: written.
        segments: that went into them.
        rows: that went into them.
        leftovers: segments and unfinished files that an earlier compaction, or a writer, was killed over; deleted.
        torn: segments whose writer was killed within a message; the rows before it are kept.
        unreadable: files that are no segments although their names are, with the reason; left where they are.
        expired: days whose answers were deleted.
        is_skipped: another compaction of this model is under way.
    """

    archives: int = 0
    segments: int = 0
    rows: int = 0
    leftovers: int = 0
    torn: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    expired: list[str] = field(default_factory=list)
    is_skipped: bool = False


def compact(folder: Path, older_than_s: float, keep_days: int, now_s: float) -> Compaction:
    """Compact the log of one model and delete what is too old; one at a time, another one skips it.

    Args:
        folder: of the model's log.
        older_than_s: segments that were begun later stay as they are.
        keep_days: whole days for which answers are kept.
        now_s: seconds since the epoch.

    Raises:
        OSError: the disk does not take an archive; everything is as it was.
    """
    done = Compaction()
    with hold_file(folder / LOCK_FILE, 0.0) as is_held:
        if not is_held:
            done.is_skipped = True
            return done
        _expire(folder, keep_days, now_s, done)
        _delete_leftovers(folder, now_s, done)
        for names in _groups(folder, now_s - older_than_s):
            _archive(folder, names, done)
    return done


def _expire(folder: Path, keep_days: int, now_s: float, done: Compaction) -> None:
    oldest = (datetime.fromtimestamp(now_s, UTC) - timedelta(days=keep_days)).date().isoformat()
    for day in sorted((folder / ARCHIVE).glob("????-??-??")):
        if day.name < oldest:
            shutil.rmtree(day)
            done.expired.append(day.name)
    for name in list_segments(folder):
        # Nothing but unreadable ones becomes so old.
        if name.day < oldest and is_abandoned(folder / name.file):
            (folder / name.file).unlink()
            done.expired.append(name.file)


def _delete_leftovers(folder: Path, now_s: float, done: Compaction) -> None:
    """What writers and compactions that were killed had not finished: no reader ever saw it."""
    new = [path for path in folder.glob(f"{NEW_PREFIX}*") if _is_left(path, now_s)]
    for path in [*new, *(folder / ARCHIVE).glob(f"*/{TEMPORARY}*{SUFFIX}")]:
        path.unlink(missing_ok=True)
        done.leftovers += 1


def _is_left(path: Path, now_s: float) -> bool:
    try:
        # A young one may be about to be locked.
        return path.stat().st_mtime <= now_s - _BEGINNING_S and is_abandoned(path)
    except FileNotFoundError:
        return False


def _groups(folder: Path, before_s: float) -> Iterator[list[SegmentName]]:
    """Closed segments of one day each, about as many as one archive is to hold."""
    group: list[SegmentName] = []
    size_bytes = 0
    for name, status in sorted(list_segments(folder).items()):
        if min(name.started_s, status.st_mtime) > before_s or not is_abandoned(folder / name.file):
            continue
        if group and (group[0].day != name.day or size_bytes + status.st_size > _ARCHIVE_BYTES):
            yield group
            group, size_bytes = [], 0
        group.append(name)
        size_bytes += status.st_size
    if group:
        yield group


def _archive(folder: Path, names: Sequence[SegmentName], done: Compaction) -> None:
    day = day_folder(folder, names[0].day)
    archived = {entry.name for path in day.glob(f"[!.]*{SUFFIX}") for entry in _contents(path, done)}
    done.leftovers += len(archived.intersection(names))
    segments = _read_all(folder, [name for name in names if name not in archived], done)
    if (first := next(segments, None)) is not None:
        # The others come one by one while the archive is written.
        contents = write_archive(day, Path(first.name.file).stem, chain([first], segments))
        done.archives += 1
        done.segments += len(contents)
        done.rows += sum(entry.rows for entry in contents)
        done.torn += [entry.name.file for entry in contents if entry.is_torn]
        archived |= {entry.name for entry in contents}
    for name in archived.intersection(names):
        (folder / name.file).unlink(missing_ok=True)


def _contents(path: Path, done: Compaction) -> tuple[Archived, ...]:
    try:
        return read_contents(path)
    except PredictionLogError as error:
        done.unreadable[path.name] = str(error)
        return ()


def _read_all(folder: Path, names: Sequence[SegmentName], done: Compaction) -> Iterator[Segment]:
    for name in names:
        try:
            yield read_segment(folder, name)
        except PredictionLogError as error:
            done.unreadable[name.file] = str(error)
