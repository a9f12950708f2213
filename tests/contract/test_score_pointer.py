"""What readers follow is in line with the release database: whoever died, whoever was late, whoever else wrote there."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from hotcold.adapters import score_pointer
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_pointer import open_table, project_scores, read_pointer, write_pointer
from hotcold.adapters.score_store import ScoreStore, StorePointer, open_score_store
from hotcold.domain.errors import ScoresError
from hotcold.domain.score_table import Pointer
from services.score_control import ScoreControl
from tests.fixtures.fragments import fragments_of, store_header
from tests.fixtures.release_steps import LEASE_S, promote
from tests.fixtures.score_tables import score, table

ROOT = Path(__file__).resolve().parents[2]

# Publishes a table and lets readers see it, but stops with the file written and not yet renamed.
WRITER = """
import sys, time
from pathlib import Path
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_pointer import project_scores
from tests.fixtures.score_tables import score, table

def stop(*_):
    print("halfway", flush=True)
    time.sleep(60)

Path.replace = stop
database = ScoreDatabase(sys.argv[1])
score(database, table(1, 120.0, "tuesday", output=sys.argv[2]))
project_scores(database, "m")
"""


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that readers know, on a local disk and on a file system that is none."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    (tmp_path / "out").mkdir()
    return (tmp_path / "out").as_uri()


@pytest.fixture
def local_output(tmp_path: Path) -> str:
    (tmp_path / "out").mkdir()
    return (tmp_path / "out").as_uri()


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    return open_score_store(str(tmp_path / "store"))


def index(store: ScoreStore, table_id: str) -> None:
    store.write(replace(store_header(table_id, 1), model="m"), fragments_of([([1], [0.5])]).merged(1))


def pointer(generation: int, output: str) -> Pointer:
    return Pointer("m", output, f"t{generation}", generation, "because")


def test_a_pointer_is_read_as_it_was_written_with_the_lineage_beside_it(output: str) -> None:
    made = table(1, 110.0, output=output)
    written = Pointer("m", output, made.id, 3, "scored by the champion")
    assert written == write_pointer(output, written, made)
    assert written == read_pointer(output)
    assert f"{output}/tables/v1-monday/data" == open_table(output)
    document = json.loads(fsspec.open(f"{output}/SCORES.json").open().read())
    expected = {
        "model": "m",
        "table": "v1-monday",
        "data": "tables/v1-monday/data",
        "generation": 3,
        "state": "published",
        "reason": "scored by the champion",
        "rows": 10,
        "psi": None,
    }
    assert expected == document


def test_an_older_pointer_never_overwrites_a_newer_one(output: str) -> None:
    newest = write_pointer(output, pointer(5, output), None)
    for late in (pointer(4, output), replace(pointer(5, output), table="another")):
        assert newest == write_pointer(output, late, None)
    assert newest == read_pointer(output)


def test_an_output_without_a_table_says_why(output: str) -> None:
    with pytest.raises(ScoresError, match=r"has no SCORES\.json"):
        open_table(output)
    write_pointer(output, Pointer("m", output, "", 2, "v2 was rolled back: worse"), None)
    with pytest.raises(ScoresError, match="shows no table: v2 was rolled back: worse"):
        open_table(output)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"model": 1, "table": [], "generation": "x", "reason": ""}'])
def test_a_file_that_is_no_pointer_is_an_error_for_readers_and_replaced(output: str, content: bytes) -> None:
    with fsspec.open(f"{output}/SCORES.json", "wb") as file:
        file.write(content)
    with pytest.raises(ScoresError, match=r"SCORES\.json cannot be read"):
        read_pointer(output)
    write_pointer(output, pointer(1, output), None)
    assert "t1" == read_pointer(output).table


def test_writers_that_race_leave_the_newest_and_readers_never_go_back(local_output: str) -> None:
    generations = random.Random(7).sample(range(1, 101), 100)
    seen = []
    with ThreadPoolExecutor(5) as pool:
        writers = [
            pool.submit(
                lambda own: [write_pointer(local_output, pointer(g, local_output), None) for g in own], generations[n::4]
            )
            for n in range(4)
        ]
        while not all(writer.done() for writer in writers):
            if (Path(local_output.removeprefix("file://")) / "SCORES.json").exists():
                seen.append(read_pointer(local_output).generation)
        for writer in writers:
            writer.result()
    assert seen == sorted(seen)
    assert 100 == read_pointer(local_output).generation
    left = {path.name for path in Path(local_output.removeprefix("file://")).iterdir()}
    assert {"SCORES.json", ".SCORES.lock"} == left


def test_an_output_that_is_not_here_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="is not on this machine"):
        write_pointer((tmp_path / "gone").as_uri(), pointer(1, "x"), None)
    assert not (tmp_path / "gone").exists()


def test_a_writer_that_hangs_does_not_hold_the_others_up_for_ever(local_output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hotcold.adapters.locks import hold_file

    monkeypatch.setattr(score_pointer, "_LOCK_WAIT_S", 0.1)
    with hold_file(Path(local_output.removeprefix("file://")) / ".SCORES.lock", 1.0) as held:
        assert held
        with pytest.raises(ScoresError, match=r"another process holds .*\.SCORES\.lock for 0\.1 s"):
            write_pointer(local_output, pointer(1, local_output), None)


def test_a_promotion_and_an_undo_reach_the_file_and_the_store(
    releases: ReleaseDatabase, scores: ScoreDatabase, store: ScoreStore, output: str
) -> None:
    for made in (table(1, 110.0, output=output), table(2, 120.0, output=output)):
        index(store, made.id)
        score(scores, made)
    project_scores(scores, "m", store)
    assert ("v1-monday", StorePointer("v1-monday", 1)) == (read_pointer(output).table, store.read_pointer("m"))
    promote(releases, 2, now=200.0)
    project_scores(scores, "m", store)
    assert ("v2-monday", StorePointer("v2-monday", 2)) == (read_pointer(output).table, store.read_pointer("m"))
    releases.undo("m", "me", "worse", 300.0, LEASE_S)
    for _ in range(2):
        (shown,) = project_scores(scores, "m", store)
        assert shown == read_pointer(output)
        assert ("v1-monday", StorePointer("v1-monday", 3)) == (shown.table, store.read_pointer("m"))


def test_the_store_goes_back_to_another_output_s_table_when_the_last_one_is_emptied(
    scores: ScoreDatabase, store: ScoreStore, tmp_path: Path
) -> None:
    outputs = [f"memory://{uuid.uuid4().hex}" for _ in range(2)]
    for number, output in enumerate(outputs):
        made = table(1, 110.0 + number, f"day-{number}", output=output)
        index(store, made.id)
        score(scores, made)
    project_scores(scores, "m", store)
    assert "v1-day-1" == store.read_pointer("m").table_id
    scores.retract("m", outputs[1], "v1-day-1", "wrong", "me", 120.0)
    project_scores(scores, "m", store)
    assert StorePointer("v1-day-0", 3) == store.read_pointer("m")


def test_a_store_without_the_table_shows_none_rather_than_one_that_was_taken_back(
    releases: ReleaseDatabase, scores: ScoreDatabase, store: ScoreStore, output: str
) -> None:
    score(scores, table(1, 110.0, output=output))
    promote(releases, 2, now=200.0)
    index(store, "v2-monday")
    score(scores, table(2, 210.0, output=output))
    project_scores(scores, "m", store)
    releases.undo("m", "me", "worse", 300.0, LEASE_S)
    for _ in range(2):
        with pytest.raises(ScoresError, match="table v1-monday of m is not in the score store"):
            project_scores(scores, "m", store)
        assert ("v1-monday", StorePointer("", 3)) == (read_pointer(output).table, store.read_pointer("m"))
    index(store, "v1-monday")
    project_scores(scores, "m", store)
    assert "v1-monday" == store.read_pointer("m").table_id


def test_one_output_that_cannot_be_written_keeps_no_other_back(scores: ScoreDatabase, tmp_path: Path, output: str) -> None:
    gone = (tmp_path / "gone").as_uri()
    for number, place in enumerate((gone, output)):
        score(scores, table(1, 110.0 + number, output=place))
    with pytest.raises(ScoresError, match="is not on this machine"):
        project_scores(scores, "m")
    assert "v1-monday" == read_pointer(output).table


def test_the_database_wins_over_a_file_and_a_store_of_one_that_was_lost(
    scores: ScoreDatabase, store: ScoreStore, output: str
) -> None:
    write_pointer(output, Pointer("m", output, "lost", 70, "long ago"), None)
    index(store, "lost")
    store.point("m", StorePointer("lost", 80))
    index(store, "v1-monday")
    score(scores, table(1, 110.0, output=output))
    project_scores(scores, "m", store)
    assert ("v1-monday", StorePointer("v1-monday", 81)) == (read_pointer(output).table, store.read_pointer("m"))
    generation = scores.read_pointers("m")[0].generation
    project_scores(scores, "m", store)
    assert generation == scores.read_pointers("m")[0].generation


def test_a_writer_killed_between_database_and_file_is_made_up_for_by_the_next_one(
    scores: ScoreDatabase, store: ScoreStore, local_output: str, tmp_path: Path
) -> None:
    score(scores, table(1, 110.0, output=local_output))
    project_scores(scores, "m")
    url = f"sqlite:///{tmp_path / 'release.db'}"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url, local_output], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert "halfway\n" == writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.wait(timeout=10)
    writer.stdout.close()
    assert ("v1-monday", "v1-tuesday") == (read_pointer(local_output).table, scores.read_pointers("m")[0].table)

    control = ScoreControl(scores, lambda: store)
    control.tick()
    assert "v1-tuesday" == read_pointer(local_output).table


def test_the_agent_projects_what_moved_and_repeats_it_now_and_then(
    scores: ScoreDatabase, store: ScoreStore, local_output: str
) -> None:
    now_s = [0.0]
    control = ScoreControl(scores, lambda: store, monotonic=lambda: now_s[0])
    control.tick()
    score(scores, table(1, 110.0, output=local_output, in_store=False))
    control.tick()
    file = Path(local_output.removeprefix("file://")) / "SCORES.json"
    assert "v1-monday" == read_pointer(local_output).table
    file.unlink()
    control.tick()
    assert not file.exists(), "nothing moved"
    now_s[0] = 31.0
    control.tick()
    assert "v1-monday" == read_pointer(local_output).table


def test_the_agent_says_a_trouble_once_and_tries_again(
    scores: ScoreDatabase, store: ScoreStore, local_output: str, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [0.0]
    control = ScoreControl(scores, lambda: store, monotonic=lambda: now_s[0])
    folder = Path(local_output.removeprefix("file://"))
    folder.rmdir()
    score(scores, table(1, 110.0, output=local_output, in_store=False))
    with caplog.at_level("INFO", "hotcold.scores"):
        for second in range(5):
            now_s[0] = second
            control.tick()
        folder.mkdir()
        now_s[0] = 6
        control.tick()
    assert ["readers of scores may not see what they should", "readers of scores see what they should again"] == [
        record.message for record in caplog.records
    ]
    assert "v1-monday" == read_pointer(local_output).table
