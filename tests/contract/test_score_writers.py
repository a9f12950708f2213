"""Writers of a pointer file that meet where no lock can be held, and file systems that fail in ways of their own."""

from __future__ import annotations

import threading
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from hotcold.adapters.lmdb_store import LmdbScoreStore
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.score_database import ScoreDatabase
from hotcold.adapters.score_pointer import project_scores, read_pointer, write_pointer
from hotcold.adapters.score_store import StorePointer
from hotcold.adapters.table_folder import Folder
from hotcold.domain.errors import BatchError, ReadersBehindError, ScoresError
from hotcold.domain.package import PackageRef
from hotcold.domain.score_table import Pointer
from services.score_control import ScoreControl
from tests.fixtures.release_steps import LEASE_S, promote
from tests.fixtures.releases import promote as promote_package
from tests.fixtures.score_tables import score, table
from tests.fixtures.web_folder import WebFolder

_WAIT_S = 20.0

Upload = Callable[[], None]


@pytest.fixture
def output() -> str:
    """A folder on the one file system at hand that, like an object store, has neither locks nor renames."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Upload], None]]:
    """What is done with the next uploads, first come first served; the others simply happen.

    The file system is the real one: uploads are only held up, as a network does.
    """
    waiting: list[Callable[[Upload], None]] = []
    real = MemoryFileSystem.pipe_file

    def pipe_file(files: MemoryFileSystem, path: str, value: bytes, **options: object) -> None:
        def upload() -> None:
            real(files, path, value, **options)

        if waiting:
            waiting.pop(0)(upload)
        else:
            upload()

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    return waiting


def pointer(generation: int, output: str) -> Pointer:
    return Pointer("m", output, f"t{generation}", generation, "because")


def document(generation: int) -> bytes:
    return b'{"model": "m", "table": "t%d", "generation": %d, "reason": "because"}' % (generation, generation)


def test_an_undo_is_not_overwritten_by_an_agent_whose_upload_comes_late(
    releases: ReleaseDatabase, scores: ScoreDatabase, output: str, tmp_path: Path, uploads: list[Callable[[Upload], None]]
) -> None:
    """Given an agent that has read the old pointer, when an undo is through before it uploads, then readers see the undo."""
    for made in (table(1, 110.0, output=output, in_store=False), table(2, 120.0, output=output, in_store=False)):
        score(scores, made)
    project_scores(scores, "m")
    promote(releases, 2, now=200.0)
    is_late, is_undone = threading.Event(), threading.Event()

    def late(upload: Upload) -> None:
        is_late.set()
        assert is_undone.wait(_WAIT_S)
        upload()

    uploads.append(late)
    agent = ScoreDatabase(f"sqlite:///{tmp_path / 'release.db'}")
    with ThreadPoolExecutor(1) as threads:
        projection = threads.submit(project_scores, agent, "m")
        assert is_late.wait(_WAIT_S)
        releases.undo("m", "me", "worse", 300.0, LEASE_S)
        project_scores(scores, "m")
        assert (3, "v1-monday") == (read_pointer(output).generation, read_pointer(output).table)
        is_undone.set()
        (shown,) = projection.result(_WAIT_S)
    agent.close()
    assert (3, "v1-monday") == (read_pointer(output).generation, read_pointer(output).table)
    assert shown == read_pointer(output)


def test_a_writer_puts_right_what_another_one_overwrote_and_did_not_live_to_see(
    output: str, uploads: list[Callable[[Upload], None]]
) -> None:
    def overtaken(upload: Upload) -> None:
        upload()
        Folder(output).write("SCORES.json", document(2))

    uploads.append(overtaken)
    assert pointer(3, output) == write_pointer(output, pointer(3, output), None)
    assert pointer(3, output) == read_pointer(output)


def test_a_writer_gives_way_to_a_newer_pointer_that_came_meanwhile(
    output: str, uploads: list[Callable[[Upload], None]]
) -> None:
    def overtaken(upload: Upload) -> None:
        upload()
        Folder(output).write("SCORES.json", document(7))

    uploads.append(overtaken)
    assert pointer(7, output) == write_pointer(output, pointer(3, output), None)
    assert pointer(7, output) == read_pointer(output)


def test_a_place_that_does_not_keep_what_is_written_is_named(output: str, uploads: list[Callable[[Upload], None]]) -> None:
    Folder(output).write("SCORES.json", document(2))
    uploads.extend([lambda _: None] * 20)
    with pytest.raises(ScoresError, match=f"{output} shows generation 2 after generation 3 was written there 4 times"):
        write_pointer(output, pointer(3, output), None)
    assert 16 == len(uploads)


class TestErrorsOfOtherFileSystems:
    """They need not be OSErrors, and are the trouble of their own output only."""

    def test_a_store_that_fails_keeps_no_other_output_back(
        self, scores: ScoreDatabase, web_folder: WebFolder, output: str
    ) -> None:
        web_folder.status, web_folder.failures_left = 503, 1000
        for number, place in enumerate((web_folder.url("out"), output)):
            score(scores, table(1, 110.0 + number, output=place, in_store=False))
        assert not issubclass(aiohttp.ClientResponseError, OSError)
        with pytest.raises(ReadersBehindError, match="ClientResponseError: 503") as raised:
            project_scores(scores, "m")
        assert [web_folder.url("out")] == [*raised.value.failures]
        assert "v1-monday" == read_pointer(output).table
        with pytest.raises(ScoresError, match=r"SCORES\.json cannot be read: .*503"):
            read_pointer(web_folder.url("out"))

    def test_a_file_system_that_cannot_be_opened_keeps_no_other_output_back(
        self, scores: ScoreDatabase, output: str, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.zip").write_bytes(b"no archive")
        bad = f"zip://out::{tmp_path / 'bad.zip'}"
        for number, place in enumerate((bad, output)):
            score(scores, table(1, 110.0 + number, output=place, in_store=False))
        assert not issubclass(zipfile.BadZipFile, OSError)
        with pytest.raises(ReadersBehindError, match="File is not a zip file") as raised:
            project_scores(scores, "m")
        assert [bad] == [*raised.value.failures]
        assert "v1-monday" == read_pointer(output).table

    def test_a_store_that_takes_nothing_is_an_error_of_its_folder(self, web_folder: WebFolder) -> None:
        web_folder.status, web_folder.failures_left = 405, 1000
        with pytest.raises(BatchError, match=f"cannot write name .* to {web_folder.url('out')}: ClientResponseError: 405"):
            Folder(web_folder.url("out")).write("name", b"content")


def test_one_model_that_goes_wrong_in_an_unknown_way_keeps_no_other_back(
    releases: ReleaseDatabase, scores: ScoreDatabase, output: str, tmp_path: Path
) -> None:
    """The store is a real one with a fault that no real one can be brought to have: an error that nobody foresaw."""

    class Faulty(LmdbScoreStore):
        def point(self, model: str, pointer: StorePointer) -> bool:
            if model == "a":
                raise RuntimeError("nobody foresaw this")
            return super().point(model, pointer)

    package = PackageRef("a", 1, "1.0.0", "a" * 64)
    promote_package(releases, package)
    score(scores, table(1, 110.0, model="a", package=package, output=f"{output}-a", in_store=False))
    score(scores, table(1, 111.0, output=output, in_store=False))
    control = ScoreControl(scores, lambda: Faulty(str(tmp_path / "store")))
    control.tick()
    assert "v1-monday" == read_pointer(output).table
