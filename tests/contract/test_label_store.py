"""Joined labels on the disk: read by the time of arrival, one for each request, whatever happened to the files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hotcold.adapters.label_store import SCHEMA, LabelStore
from hotcold.adapters.whole_file import TEMPORARY
from tests.fixtures.disks import fill_disk, small_disk
from tests.fixtures.prediction_logs import MODEL, ROOT, START_S

RUN, OTHER = "0" * 12, "1" * 12
DAY_S = 86_400.0

# Writes labels, and kills itself at the nth time that it is about to open or rename a file.
KILLED = """
import os, signal, sys
from pathlib import Path
from hotcold.adapters.label_store import LabelStore
from tests.contract.test_label_store import RUN, claims

root, left = Path(sys.argv[1]), int(sys.argv[2])
made = claims(("r2", 1.0))

def watch(event, arguments):
    global left
    if event in ("open", "os.rename", "os.mkdir") and str(arguments[0]).startswith(str(root)):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
LabelStore(root, "late-flights").write(made, RUN, 1)
"""


def claims(*rows: tuple[str, float], at_s: float = START_S, delay_s: float = 60.0) -> pa.Table:
    """Claims about requests that arrived one second after the other."""
    arrived = [round((at_s + number) * 1e6) for number in range(len(rows))]
    values = {
        "request_id": [ident for ident, _ in rows],
        "at": arrived,
        "label": [label for _, label in rows],
        "known_at": [at + round(delay_s * 1e6) for at in arrived],
        "delay_s": [delay_s] * len(rows),
    }
    return pa.table({name: pa.array(values[name]).cast(SCHEMA.field(name).type) for name in SCHEMA.names})


def labels(store: LabelStore, since_s: float = float("-inf"), until_s: float = float("inf")) -> dict[str, float]:
    table = store.read(since_s, until_s)
    assert ["request_id", "label", "delay_s"] == table.column_names
    return dict(zip(table["request_id"].to_pylist(), table["label"].to_pylist(), strict=True))


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path, MODEL)


class TestReading:
    def test_without_labels_there_are_none(self, store: LabelStore) -> None:
        assert {} == labels(store) and store.version() == LabelStore(store.folder, "another").version()

    def test_each_request_has_its_label_and_how_long_it_took(self, store: LabelStore) -> None:
        store.write(claims(("r0", 0.0), ("r1", 1.0), ("r2", 0.25)), RUN, 0)
        assert {"r0": 0.0, "r1": 1.0, "r2": 0.25} == labels(store)
        table = store.read()
        assert [60.0] * 3 == table["delay_s"].to_pylist()
        assert (pa.string(), pa.float32(), pa.float32()) == tuple(field.type for field in table.schema)

    def test_requests_are_chosen_by_their_arrival(self, store: LabelStore) -> None:
        """From the first moment on, up to the last one and without it."""
        store.write(claims(("r0", 0.0), ("r1", 1.0), ("r2", 0.0), ("r3", 1.0)), RUN, 0)
        store.write(claims(("other day", 1.0), at_s=START_S + DAY_S), RUN, 1)
        assert ["r1", "r2"] == [*labels(store, START_S + 1, START_S + 3)]
        assert ["other day"] == [*labels(store, START_S + 100)]
        assert {} == labels(store, START_S + 10, START_S + 20)

    def test_a_short_time_of_a_long_file_is_found(self, store: LabelStore) -> None:
        """The file has several row groups, of which few are read."""
        count = 300_000
        store.write(claims(*((f"r{number}", number % 2) for number in range(count))), RUN, 0)
        assert {"r150000": 0.0, "r150001": 1.0} == labels(store, START_S + 150_000, START_S + 150_002)
        assert count == len(store.read())

    def test_the_version_changes_with_the_labels_only(self, store: LabelStore) -> None:
        seen = [store.version()]
        for number in range(3):
            store.write(claims((f"r{number}", 1.0)), RUN, number)
            seen.append(store.version())
        assert 4 == len(set(seen)) and seen[-1] == LabelStore(store.folder.parent, MODEL).version()


class TestContradictions:
    @pytest.mark.parametrize("files", [1, 2])
    def test_two_labels_of_one_request_are_counted_and_not_used(self, store: LabelStore, files: int) -> None:
        parts = [claims(("r0", 0.0), ("r1", 1.0)), claims(("r1", 0.0), ("r2", 1.0))]
        tables = parts if files == 2 else [pa.concat_tables(parts)]
        for number, table in enumerate(tables):
            store.write(table, RUN, number)
        assert ({"r0": 0.0, "r2": 1.0}, 1) == (labels(store), store.contradicting)

    def test_they_are_seen_across_the_edge_of_what_is_read(self, store: LabelStore) -> None:
        """A copy of the request arrived just before."""
        store.write(claims(("r0", 0.0), at_s=START_S - 0.01), RUN, 0)
        store.write(claims(("r0", 1.0), at_s=START_S + 0.01), OTHER, 0)
        assert {} == labels(store, START_S) == labels(store, until_s=START_S)
        assert 1 == store.contradicting

    def test_the_same_label_twice_is_one(self, store: LabelStore) -> None:
        for run in (RUN, OTHER):
            store.write(claims(("r0", 1.0)), run, 0)
        assert ({"r0": 1.0}, 0) == (labels(store), store.contradicting)


class TestDamage:
    def test_files_that_are_none_are_named_and_skipped(self, store: LabelStore) -> None:
        store.write(claims(("r0", 1.0)), RUN, 0)
        store.write(claims(("r1", 1.0)), RUN, 1)
        store.write(claims(("r2", 1.0)), RUN, 2)
        store.write(claims(("r3", 1.0)), RUN, 3)
        torn, foreign, flipped = (next(store.folder.glob(f"*-00000{number}.parquet")) for number in (1, 2, 3))
        torn.write_bytes(torn.read_bytes()[:-9])
        pq.write_table(pa.table({"request_id": ["r2"], "label": [1.0]}), foreign)
        content = bytearray(flipped.read_bytes())
        content[40] ^= 1
        flipped.write_bytes(content)
        (store.folder / "mine.parquet").write_bytes(b"not yours")
        (store.folder / "notes.txt").write_bytes(b"not yours")
        assert {"r0": 1.0} == labels(store)
        assert {torn.name, foreign.name, flipped.name, "mine.parquet"} == store.unreadable.keys()
        assert (
            "it is damaged" in store.unreadable[torn.name]
            and "needed are request_id string, at" in store.unreadable[foreign.name]
        )

    def test_a_full_disk_leaves_everything_as_it_was(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", "512k") as root:
            store = LabelStore(root, MODEL)
            store.write(claims(("r0", 1.0)), RUN, 0)
            before, ballast = store.version(), fill_disk(root)
            many = claims(*((f"r{number}", 1.0) for number in range(20_000)))
            with pytest.raises(OSError, match="No space left"):
                store.write(many, RUN, 1)
            assert (before, {"r0": 1.0}) == (store.version(), labels(store))
            assert [] == [*store.folder.glob(".*")]
            ballast.unlink()
            store.write(many, RUN, 1)
            assert 20_000 == len(store.read())

    def test_killed_at_every_step_it_is_there_or_not(self, store: LabelStore) -> None:
        store.write(claims(("r1", 0.0)), RUN, 0)
        event, killed = 0, True
        while killed:
            command = [sys.executable, "-c", KILLED, str(store.folder.parent), str(event)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode in (0, -9), done.stderr
            killed = done.returncode == -9
            assert labels(store) in ({"r1": 0.0}, {"r1": 0.0, "r2": 1.0})
            assert {} == store.unreadable
            event += 1
        assert event > 2 and {"r1": 0.0, "r2": 1.0} == labels(store)
        store.delete_old(START_S - DAY_S)
        assert [] == [*store.folder.glob(f"{TEMPORARY}*")] and 2 == len(labels(store))


def test_old_labels_are_deleted_by_the_file(store: LabelStore) -> None:
    for day in range(3):
        store.write(claims((f"r{day}", 1.0), at_s=START_S + day * DAY_S), RUN, day)
    assert 1 == len(store.delete_old(START_S + DAY_S))
    assert ["r1", "r2"] == sorted(labels(store))
