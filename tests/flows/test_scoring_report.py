"""What a batch run shows in the Prefect UI and in MLflow, and that it goes on where neither can be reached."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from hotcold.adapters.mlflow_client import connect
from hotcold.adapters.table_folder import Folder
from hotcold.domain.errors import RegistryError
from hotcold.domain.scoring_progress import Progress
from tasks import scoring_progress
from tasks.scoring_progress import ProgressArtifact
from tasks.scoring_report import log_scoring_if_reachable, log_scoring_to_mlflow, publish_scoring_report, scoring_page
from tests.fixtures.flow_runs import artifacts, in_a_flow
from tests.fixtures.summaries import TABLE, make_published, make_summary

pytestmark = pytest.mark.usefixtures("prefect_server")


def progress(done: int) -> Progress:
    return Progress(done * 100, 1000, done, 10, float(done))


def test_the_report_is_two_tables_and_a_page() -> None:
    in_a_flow(lambda: publish_scoring_report(make_summary(published=make_published(), model="shown")))
    (facts,), (gates,), (page,) = (artifacts(key) for key in ("scores-shown", "score-gates-shown", "scored-shown"))
    table = {row["fact"]: row["value"] for row in json.loads(facts.data)}

    assert {
        "outcome": "refused: quarantined is HARM",
        "table": TABLE,
        "rows scored": "1,000",
        "rows quarantined": "500",
        "input files": "3, of which 1 cannot be read",
        "parts": "12, of which 10 by this run",
        "time": "4 s, 200 rows/s",
        "parameter rows_per_part": "100",
    }.items() <= table.items()
    assert ("quarantined", "HARM") == (json.loads(gates.data)[1]["gate"], json.loads(gates.data)[1]["verdict"])
    assert ("table", "table", "markdown") == (facts.type, gates.type, page.type)
    assert facts.flow_run_id == page.flow_run_id is not None


def test_the_page_begins_with_the_verdict_and_holds_the_picture() -> None:
    page = scoring_page(make_summary())
    assert page.startswith(
        "# flights 1.2.0: refused\n\nquarantined is HARM\n\n3 of 6 checks are SAFE.\n\n- quarantined is HARM: 500"
    )
    picture = re.search(r"!\[[^]]*\]\(data:image/png;base64,([^)]+)\)", page)
    assert picture and base64.b64decode(picture[1]).startswith(b"\x89PNG")


def test_the_page_lists_what_was_set_aside_and_lets_no_input_write_in_it() -> None:
    page = scoring_page(make_summary())
    assert "- file:///in/b.parquet, an unknown number of rows: the footer is damaged \\| &lt;script&gt;" in page
    assert "- file:///in/c.parquet, 500 rows: row group 0: row 17, dep\\_hour is 99" in page
    assert "- … and 28 more" in page
    assert "<script>" not in page


def test_a_run_that_had_nothing_to_do_can_be_shown() -> None:
    page = scoring_page(make_summary([], parts_now=0, rows_now=0, gates=(), outcome="published"))
    assert page.startswith("# flights 1.2.0: published\n")
    assert "| speed | all parts were done before |" in page
    assert "| mean score | none |" in page


def test_progress_is_one_artifact_of_the_run_that_ends_with_the_last_word() -> None:
    def work() -> None:
        with ProgressArtifact("moving", interval_s=0.0) as shown:
            for done in range(1, 11):
                shown.update(progress(done))
                time.sleep(0.02)

    in_a_flow(work)
    (artifact,) = artifacts("scoring-moving")
    assert ("progress", 100.0, "1,000 of 1,000 rows, 100 rows/s") == (artifact.type, artifact.data, artifact.description)
    assert artifact.flow_run_id


def test_progress_is_told_once_per_interval_and_the_last_one_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[float] = []
    # Mocked to count the calls, which no answer of the server tells.
    monkeypatch.setattr(scoring_progress, "create_progress_artifact", lambda percent, *_: sent.append(percent) or "id")
    monkeypatch.setattr(scoring_progress, "update_progress_artifact", lambda _, percent, *__: sent.append(percent))
    now = 100.0

    def work() -> None:
        nonlocal now
        shown = ProgressArtifact("often", clock=lambda: now, interval_s=2.0)
        for done in range(1, 10):
            shown.update(progress(done))
            shown._sender.join()  # type: ignore[union-attr]
            now += 0.5
        shown.close()
        shown.close()

    in_a_flow(work)
    assert [10.0, 50.0, 90.0] == sent


def test_a_prefect_that_fails_is_told_of_once_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create, failures = scoring_progress.create_progress_artifact, iter(range(3))

    def fail(*arguments: Any) -> Any:
        if next(failures, None) is not None:
            raise httpx.ConnectError("All connection attempts failed")
        return create(*arguments)

    # Mocked, because a harness's server that is away could not end the flow run either.
    monkeypatch.setattr(scoring_progress, "create_progress_artifact", fail)

    def work() -> None:
        shown = ProgressArtifact("hiccup", interval_s=0.0)
        for done in range(1, 6):
            shown.update(progress(done))
            shown._sender.join()  # type: ignore[union-attr]
        shown.close()

    in_a_flow(work)
    assert 1 == sum("the progress is not shown" in record.message for record in caplog.records)
    assert [50.0] == [artifact.data for artifact in artifacts("scoring-hiccup")]


def test_a_prefect_that_hangs_does_not_hold_the_run_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    # Mocked for the same reason.
    monkeypatch.setattr(scoring_progress, "create_progress_artifact", lambda *_: answered.wait(30))
    monkeypatch.setattr(scoring_progress, "_LAST_WORD_S", 0.1)

    def work() -> float:
        began = time.monotonic()
        with ProgressArtifact("hanging", interval_s=0.0) as shown:
            for done in range(1, 11):
                shown.update(progress(done))
        return time.monotonic() - began

    assert in_a_flow(work) < 1.0
    answered.set()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """The folder of the table."""
    return Folder(str(tmp_path))


def test_the_table_is_logged_to_mlflow(mlflow_sqlite: str, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_sqlite)
    run_id = in_a_flow(lambda: log_scoring_if_reachable(make_summary(), folder))
    assert TABLE == connect(mlflow_sqlite).get_run(run_id).data.tags["hotcold.table"]


def test_a_table_that_was_found_complete_is_logged_once_for_each_outcome(
    mlflow_sqlite: str, other_mlflow: str, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_sqlite)

    def log(**changes: Any) -> str | None:
        return in_a_flow(lambda: log_scoring_if_reachable(make_summary(**changes), folder))

    first = log(outcome="published")
    assert log(outcome="published", parts_now=0) is None
    # The same run of MLflow gets what is new.
    assert [first, first] == [log(outcome="kept: retracted", parts_now=0), log(outcome="kept: retracted")]
    assert log(outcome="kept: retracted", parts_now=0) is None
    assert "kept: retracted" == connect(mlflow_sqlite).get_run(first).data.tags["hotcold.outcome"]
    # Another MLflow has none of it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other_mlflow)
    assert log(outcome="kept: retracted", parts_now=0) not in (None, first)


def test_a_table_whose_folder_takes_nothing_more_is_logged_and_published_all_the_same(
    mlflow_sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_sqlite)
    (tmp_path / "file").touch()
    assert in_a_flow(lambda: log_scoring_if_reachable(make_summary(), Folder(str(tmp_path / "file"))))
    assert [True] == ["free some space" in r.message for r in caplog.records if "logged to MLflow again" in r.message]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", ""])
def test_without_mlflow_a_run_warns_and_goes_on(
    uri: str, folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(log_scoring_to_mlflow, "retry_delay_seconds", 0)
    assert in_a_flow(lambda: log_scoring_if_reachable(make_summary(), folder)) is None
    assert [f"table {TABLE} is not in MLflow"] == [
        record.message.partition(":")[0] for record in caplog.records if "is not in MLflow" in record.message
    ]


def test_the_task_itself_says_that_mlflow_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RegistryError, match="does not answer"):
        in_a_flow(lambda: log_scoring_to_mlflow.with_options(retries=0)(make_summary()))
