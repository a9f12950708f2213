"""The score store on disk: what only files can suffer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hotcold.adapters.score_lookup import ScoreLookup
from hotcold.adapters.score_store import ScoreStore, StorePointer, delete_unknown_tables, open_score_store
from hotcold.domain.errors import NoScoresError, ScoreStoreError
from tests.fixtures.fragments import MODEL, ROOT, WRITER, start_writer, write_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def published(folder: Path) -> ScoreStore:
    store = open_score_store(str(folder))
    write_table(store, "t1")
    store.point(MODEL, StorePointer("t1", 1))
    return store


def test_what_a_killed_writer_left_is_deleted_by_the_next_one(published: ScoreStore, folder: Path) -> None:
    with start_writer(str(folder), "t2") as writer:
        writer.kill()
    assert (folder / MODEL / ".t2.new").exists()
    write_table(published, "t3", rows=10)
    assert [] == [*(folder / MODEL).glob(".*")]


@pytest.mark.usefixtures("published")
def test_a_table_that_is_read_may_be_deleted(folder: Path) -> None:
    lookup = ScoreLookup(str(folder), MODEL)
    assert lookup.find("1") is not None
    (folder / MODEL / "t1.mdb").unlink()
    assert lookup.find("2") is not None


@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "cut off", "another file", "no header", "zeros inside"])
def test_a_damaged_table_counts_as_none(published: ScoreStore, folder: Path, damage: str) -> None:
    path = folder / MODEL / "t1.mdb"
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(
            {
                "empty": b"",
                "garbage": os.urandom(100_000),
                "cut off": content[: len(content) // 2],
                "another file": b"PAR1" + bytes(100_000),
                "no header": content.replace(b'"header"', b'"hander"'),
                "zeros inside": content[:8192] + bytes(len(content) - 8192),
            }[damage]
        )
    lookup = ScoreLookup(str(folder), MODEL)
    for _ in range(3):
        with pytest.raises(NoScoresError, match="is published but cannot be used"):
            lookup.find("1")
    assert not published.has(MODEL, "t1")
    assert not published.delete_older(MODEL, "t1", time.time() + 60), "what readers should see is never deleted"
    # Publishing it again heals it.
    write_table(published, "t1", version=2)
    found = lookup.find("1")
    assert found is not None
    assert 2.0 == found.score


def test_a_damaged_table_that_nobody_knows_is_deleted_all_the_same(published: ScoreStore, folder: Path) -> None:
    (folder / MODEL / "t2.mdb").write_bytes(b"no table")
    assert ("t2",) == delete_unknown_tables(published, MODEL, ("t1",), time.time() + 60)
    assert ("t1",) == published.tables(MODEL)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"table_id": "t1"}', b'{"table_id": "t1", "generation": null}'])
def test_a_damaged_pointer_counts_as_none(published: ScoreStore, folder: Path, content: bytes) -> None:
    lookup = ScoreLookup(str(folder), MODEL)
    assert lookup.find("1") is not None
    (folder / MODEL / "current.json").write_bytes(content)
    with pytest.raises(NoScoresError):
        lookup.find("1")
    assert StorePointer() == published.read_pointer(MODEL)
    assert published.point(MODEL, StorePointer("t1", 2))
    assert lookup.find("1") is not None


def test_a_full_disk_says_what_is_needed_and_leaves_the_old_table(published: ScoreStore, folder: Path) -> None:
    """A limit on the size of files stands for the disk: the same call fails in the same place."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n{WRITER}"
    answer = subprocess.run(
        [sys.executable, "-c", limited, str(folder), "t2"],
        cwd=ROOT,
        input="\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ScoreStoreError: cannot write table t2" in answer.stdout, answer.stdout + answer.stderr
    assert "it needs about 8 MB" in answer.stdout
    assert ("t1",) == published.tables(MODEL)
    assert [] == [*(folder / MODEL).glob(".*")]
    assert ScoreLookup(str(folder), MODEL).find("1") is not None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = open_score_store(str(tmp_path / "file"))
    with pytest.raises(ScoreStoreError, match="cannot write table t1"):
        write_table(store, "t1")
    with pytest.raises(ScoreStoreError, match="cannot point at table none"):
        store.point(MODEL, StorePointer("", 1))
    with pytest.raises(NoScoresError):
        ScoreLookup(str(tmp_path / "file"), MODEL).find("1")
