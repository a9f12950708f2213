"""compact-predictions in a real Prefect: all models, on the settings' own log."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flows.compact_predictions import compact_predictions
from hotcold.adapters.prediction_archive import list_archives
from hotcold.adapters.prediction_segments import list_segments
from hotcold.settings import Settings
from tests.fixtures.prediction_logs import MODEL, answer, read_ids, write_segment

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTCOLD_HOME", str(tmp_path))
    return Settings().prediction_dir


def test_closed_segments_of_all_models_are_compacted(root: Path) -> None:
    write_segment(root, [[answer(0), answer(1)]], started_s=time.time() - 3600)
    write_segment(root, [[answer(2)]], number=1, started_s=time.time())
    (root / "another-model").mkdir()
    assert (2, 0) == (compact_predictions(), compact_predictions())
    assert (1, 1) == (len(list_archives(root / MODEL)), len(list_segments(root / MODEL)))
    assert ["w1-0", "w1-1", "w1-2"] == read_ids(root)


@pytest.mark.usefixtures("root")
def test_without_a_log_there_is_nothing_to_do() -> None:
    assert 0 == compact_predictions()


def test_what_cannot_be_read_is_told_and_the_rest_is_done(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_segment(root, [[answer(0)]], started_s=time.time() - 3600)
    garbage = write_segment(root, [], number=1, started_s=time.time() - 3600)
    garbage.write_bytes(b"garbage")
    torn = write_segment(root, [[answer(2)]], number=2, started_s=time.time() - 3600, how="killed")
    torn.write_bytes(torn.read_bytes() + b"torn")
    with caplog.at_level("WARNING"):
        assert 2 == compact_predictions()
    assert garbage.name in caplog.text and torn.name in caplog.text and garbage.exists()
