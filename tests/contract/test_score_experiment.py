"""A score table in MLflow: one run each, with all that made it, on a database and on a server."""

from __future__ import annotations

import json
import socket
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotcold.adapters.mlflow_client import connect
from hotcold.adapters.score_experiment import ScoreExperiment
from hotcold.domain.errors import RegistryError
from hotcold.domain.scoring_summary import ScoringSummary
from tests.fixtures.summaries import TABLE, make_published, make_summary


@pytest.fixture
def summary() -> ScoringSummary:
    """Of a model of its own, because all tests share one server."""
    return make_summary(published=make_published(), model=f"m{uuid.uuid4().hex[:10]}")


def runs_of(uri: str, summary: ScoringSummary) -> list[Any]:
    client = connect(uri)
    experiment = client.get_experiment_by_name(f"{summary.model}-scoring")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def test_a_table_is_a_run_that_can_be_traced(mlflow_uri: str, summary: ScoringSummary, tmp_path: Path) -> None:
    run_id = ScoreExperiment(mlflow_uri).write(summary)
    (run,) = runs_of(mlflow_uri, summary)
    tags = {name: value for name, value in run.data.tags.items() if name.startswith("hotcold.")}
    files = {file.path for file in connect(mlflow_uri).list_artifacts(run_id)}
    lineage = connect(mlflow_uri).download_artifacts(run_id, "SCORES.json", str(tmp_path))

    assert (run_id, "FINISHED", TABLE) == (run.info.run_id, run.info.status, run.info.run_name)
    assert (1_767_323_041_250, 1_767_323_045_250) == (run.info.start_time, run.info.end_time)
    assert {
        "hotcold.table": TABLE,
        "hotcold.model_version": "7",
        "hotcold.digest": "d" * 64,
        "hotcold.input_fingerprint": "f" * 64,
        "hotcold.content_sha256": "e" * 64,
        "hotcold.flow_run": "0f0f",
        "hotcold.model_run": "9" * 32,
        "hotcold.device": "cpu",
        "hotcold.outcome": "refused: quarantined is HARM",
        "hotcold.compared_with": "cccccccccccc-fedcba9876543210",
    } == tags
    assert {"on_bad_part": "quarantine", "rows_per_part": "100", "engine": "onedal"}.items() <= run.data.params.items()
    assert {"histogram.png", "SCORES.json"} == files
    assert summary.to_lineage() == json.loads(Path(lineage).read_text())


def test_its_numbers_are_metrics(mlflow_sqlite: str, summary: ScoringSummary) -> None:
    ScoreExperiment(mlflow_sqlite).write(summary)
    metrics = runs_of(mlflow_sqlite, summary)[0].data.metrics
    wanted = {"rows": 1000, "rows_per_s": 200, "seconds": 4, "quarantined": 500, "stage_score_s": 8, "psi": summary.psi}
    assert wanted == {name: metrics[name] for name in wanted}
    assert 0.5 == pytest.approx(metrics["mean_score"], abs=1e-6) == pytest.approx(metrics["score_p50"], abs=0.02)
    assert {"score_p01", "score_p05", "score_p25", "score_p75", "score_p95", "score_p99"} <= metrics.keys()


def test_the_same_table_again_updates_its_run(mlflow_uri: str, summary: ScoringSummary) -> None:
    """Also with other parameters, which MLflow itself would refuse to change."""
    first = ScoreExperiment(mlflow_uri).write(summary)
    again = replace(summary, outcome="published", flow_run="1e1e", rows_now=0, parameters={"rows_per_part": 100, "keep": 3})
    assert first == ScoreExperiment(mlflow_uri).write(again)
    (run,) = runs_of(mlflow_uri, summary)
    assert ("published", "1e1e") == (run.data.tags["hotcold.outcome"], run.data.tags["hotcold.flow_run"])
    assert (0.0, "quarantine", "3") == (run.data.metrics["rows_per_s"], run.data.params["on_bad_part"], run.data.params["keep"])


def test_another_table_is_another_run(mlflow_sqlite: str, summary: ScoringSummary) -> None:
    ScoreExperiment(mlflow_sqlite).write(summary)
    ScoreExperiment(mlflow_sqlite).write(replace(summary, table="dddddddddddd-0000000000000000"))
    assert 2 == len(runs_of(mlflow_sqlite, summary))


def test_a_table_without_scores_or_a_table_before_it_lacks_those_numbers(mlflow_sqlite: str) -> None:
    summary = make_summary([])
    ScoreExperiment(mlflow_sqlite).write(summary)
    metrics = runs_of(mlflow_sqlite, summary)[0].data.metrics
    assert not {"psi", "mean_score", "score_p50"} & metrics.keys()


def test_long_values_are_cut_to_what_mlflow_takes(mlflow_sqlite: str, summary: ScoringSummary) -> None:
    long = replace(summary, outcome="refused: " + "x" * 10_000, parameters={"passthrough": ["column"] * 2000})
    ScoreExperiment(mlflow_sqlite).write(long)
    (run,) = runs_of(mlflow_sqlite, summary)
    assert (6000, 6000) == (len(run.data.tags["hotcold.outcome"]), len(run.data.params["passthrough"]))


def test_an_mlflow_that_is_away_is_named(summary: ScoringSummary) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(RegistryError, match="does not answer"):
            ScoreExperiment(address).write(summary)
