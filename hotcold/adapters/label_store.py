"""Labels that were joined to logged requests: Parquet files, each written once and never changed.

A file holds what was claimed of requests. Where claims about one request differ, in one file or in several, nobody can say
which of them is true: readers count that request and leave it out.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from hotcold.adapters.whole_file import delete_unfinished, write_parquet
from hotcold.domain.errors import LabelError, first_line
from hotcold.domain.label_name import LabelName

_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        # When the request arrived, by the clock of its replica.
        ("at", _TIME),
        ("label", pa.float32()),
        ("known_at", _TIME),
        # From `at` to `known_at`; negative where clocks differ.
        ("delay_s", pa.float32()),
    ]
)
_READ = ["request_id", "label", "delay_s"]
# Copies of a request arrive a little apart, and an answer may be asked for twice.
MARGIN_S = 60.0


class LabelStore:
    """Joined labels of one model.

    Args:
        root: folder of all models' labels.
        model: registered model name.
    """

    def __init__(self, root: Path, model: str) -> None:
        self.folder = root / model
        # Of what was read last: requests that were left out, and files that cannot be read, with the reason.
        self.contradicting = 0
        self.unreadable: dict[str, str] = {}

    def version(self) -> str:
        """Changes whenever there are other labels; costs a listing."""
        names = "\n".join(name.file for name in self._names())
        return xxhash.xxh3_64_hexdigest(names.encode())

    def read(self, since_s: float = float("-inf"), until_s: float = float("inf")) -> pa.Table:
        """Labels of requests that arrived within these times, one for each request.

        Args:
            since_s: then or later, by the clock of the replica, seconds since the epoch.
            until_s: before.

        Returns:
            `request_id`, string; `label`, float32 in [0, 1]; `delay_s`, float32, from the arrival until the label was known.
            Requests with contradicting labels are left out and counted in `contradicting`; files that cannot be read are
            named in `unreadable`.
        """
        tables = [table for _, table in self.claims(since_s - MARGIN_S, until_s + MARGIN_S)]
        claims = pa.concat_tables([SCHEMA.empty_table(), *tables])
        of_request = claims.group_by("request_id").aggregate(
            [("at", "min"), ("label", "min"), ("label", "max"), ("delay_s", "min")]
        )
        of_request = _arrived_within(of_request, "at_min", since_s, until_s)
        agree = pc.equal(of_request["label_min"], of_request["label_max"])
        agreed = of_request.filter(agree)
        self.contradicting = len(of_request) - len(agreed)
        return pa.table([agreed["request_id"], agreed["label_min"], agreed["delay_s_min"]], _READ)

    def claims(self, since_s: float, until_s: float) -> Iterator[tuple[LabelName, pa.Table]]:
        """What is claimed of requests that arrived within these times, file by file; columns as in SCHEMA."""
        self.unreadable = {path.name: "its name is none of a file of joined labels" for path in self._foreign()}
        for name in self._names():
            if name.overlaps(since_s, until_s):
                try:
                    yield name, _read(self.folder / name.file, since_s, until_s)
                except FileNotFoundError:
                    # Too old, and deleted since.
                    continue
                except LabelError as error:
                    self.unreadable[name.file] = str(error)

    def write(self, claims: pa.Table, run: str, number: int) -> None:
        """Add claims; all of them are there and safely on the disk, or none.

        Args:
            claims: one at least, columns as in SCHEMA.
            run: see LabelName.
            number: see LabelName.

        Raises:
            OSError: the disk does not take them; everything is as it was.
        """
        first, last = (moment.timestamp() for moment in pc.min_max(claims["at"]).as_py().values())
        name = LabelName.of(first, last, run, number)
        # In order, so that readers of a short time read few row groups.
        write_parquet(self.folder / name.file, claims.sort_by("at"))

    def delete_old(self, before_s: float) -> list[str]:
        """Delete files whose requests all arrived before, and what a writer that was killed left; nobody may be writing.

        Returns:
            Names of the files.
        """
        delete_unfinished(self.folder)
        old = [name.file for name in self._names() if name.last_s < before_s]
        for file in old:
            (self.folder / file).unlink(missing_ok=True)
        return old

    def _names(self) -> list[LabelName]:
        return sorted(name for path in self.folder.glob("[!.]*.parquet") if (name := LabelName.parse(path.name)))

    def _foreign(self) -> list[Path]:
        return [path for path in self.folder.glob("[!.]*.parquet") if LabelName.parse(path.name) is None]


def new_run() -> str:
    """A name for a run that writes labels; no other has it."""
    return uuid.uuid4().hex[:12]


def _read(path: Path, since_s: float, until_s: float) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(SCHEMA):
                found, needed = (
                    ", ".join(f"{one.name} {one.type}" for one in schema) for schema in (file.schema_arrow, SCHEMA)
                )
                raise LabelError(f"it has the columns {found}; needed are {needed}")
            groups = [group for group in range(file.num_row_groups) if _may_hold(file, group, since_s, until_s)]
            return _arrived_within(file.read_row_groups(groups), "at", since_s, until_s)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise LabelError(f"it is damaged: {first_line(error)}") from error


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _may_hold(file: pq.ParquetFile, group: int, since_s: float, until_s: float) -> bool:
    statistics = file.metadata.row_group(group).column(SCHEMA.get_field_index("at")).statistics
    if statistics is None or not isinstance(statistics.min, datetime):
        return True
    return bool(statistics.max.timestamp() >= since_s and statistics.min.timestamp() < until_s)


def _arrived_within(table: pa.Table, column: str, since_s: float, until_s: float) -> pa.Table:
    times = table[column].cast(pa.int64())
    if since_s > float("-inf"):
        table = table.filter(pc.greater_equal(times, round(since_s * 1e6)))
        times = table[column].cast(pa.int64())
    return table.filter(pc.less(times, round(until_s * 1e6))) if until_s < float("inf") else table
