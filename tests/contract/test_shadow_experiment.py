"""A comparison in MLflow: one run for each release, with the report, and the verdict at the candidate's version."""

from __future__ import annotations

import json
import socket
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotcold.adapters.mlflow_client import connect
from hotcold.adapters.shadow_experiment import ShadowExperiment
from hotcold.adapters.shadow_page import shadow_page
from hotcold.domain.errors import RegistryError
from hotcold.domain.gate import Verdict
from hotcold.domain.package import PackageRef
from hotcold.domain.shadow.report import ShadowReport
from hotcold.domain.shadow.report_json import report_document
from tests.fixtures.shadow_reports import harm_report, labelled_report, unknown_report

RELEASE = "0f0f1e1e2d2d3c3c"


def registered(uri: str, model: str) -> str:
    """A model with one version; its files are of no concern here."""
    client = connect(uri)
    client.create_registered_model(model)
    # A server takes files of a run only.
    run = client.create_run("0").info
    return str(client.create_model_version(model, f"{run.artifact_uri}/model", run.run_id, await_creation_for=0).version)


@pytest.fixture
def model() -> str:
    """A name of its own, because all tests share one server."""
    return f"m{uuid.uuid4().hex[:10]}"


def harmed(uri: str, model: str, **changes: Any) -> ShadowReport:
    return harm_report(model=model, candidate=PackageRef(model, int(registered(uri, model)), "1.3.0", "d" * 64), **changes)


def runs_of(uri: str, model: str) -> list[Any]:
    client = connect(uri)
    experiment = client.get_experiment_by_name(f"{model}-shadow")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def test_a_comparison_is_a_run_with_its_report(mlflow_uri: str, model: str, tmp_path: Path) -> None:
    report = harmed(mlflow_uri, model)
    run_id = ShadowExperiment(mlflow_uri).write(report)
    (run,) = runs_of(mlflow_uri, model)
    client = connect(mlflow_uri)
    tags = {name: value for name, value in run.data.tags.items() if name.startswith("hotcold.")}
    read = {
        name: Path(client.download_artifacts(run_id, name, str(tmp_path))).read_text(encoding="utf-8")
        for name in ("report.html", "report.json")
    }

    assert (run_id, "FINISHED", f"1.3.0 {RELEASE}") == (run.info.run_id, run.info.status, run.info.run_name)
    assert (1_767_323_045_000, 1_767_328_445_000) == (run.info.start_time, run.info.end_time)
    assert {
        "hotcold.verdict": "HARM",
        "hotcold.reason": report.reason,
        "hotcold.source": "copies of live requests",
        "hotcold.release": RELEASE,
        "hotcold.champion.version": "6",
        "hotcold.champion.semver": "1.2.0",
        "hotcold.champion.digest": "c" * 64,
        "hotcold.candidate.version": "1",
        "hotcold.candidate.semver": "1.3.0",
        "hotcold.candidate.digest": "d" * 64,
    } == tags
    assert shadow_page(report) == read["report.html"]
    assert json.loads(json.dumps(report_document(report))) == json.loads(read["report.json"])


def test_the_verdict_stands_at_the_candidates_version(mlflow_uri: str, model: str) -> None:
    report = harmed(mlflow_uri, model)
    run_id = ShadowExperiment(mlflow_uri).write(report)
    tags = connect(mlflow_uri).get_model_version(model, "1").tags
    assert {
        "hotcold.shadow.verdict": "HARM",
        "hotcold.shadow.reason": report.reason,
        "hotcold.shadow.run": run_id,
    } == tags


def test_its_numbers_are_metrics(mlflow_sqlite: str, model: str) -> None:
    registered(mlflow_sqlite, model)
    report = labelled_report(model=model, candidate=PackageRef(model, 1, "1.3.0", "d" * 64))
    ShadowExperiment(mlflow_sqlite).write(report)
    metrics = runs_of(mlflow_sqlite, model)[0].data.metrics
    flips = next(finding for finding in report.findings if finding.signal == "decision_flips")
    assert report.labels is not None
    wanted = {
        "pairs": 6000,
        "psi": report.drift.psi,
        "ks": report.drift.ks,
        "left_out": 19,
        "segments_harmed": 1,
        "decision_flips.effect": flips.effect,
        "decision_flips.lower": flips.lower,
        "decision_flips.upper": flips.upper,
        "candidate.total.p99_us": report.candidate_times[-1].p99_us,
        "candidate.log_loss": report.labels.candidate.log_loss,
        "champion.auc": report.labels.champion.auc,
    }
    assert wanted == {name: metrics[name] for name in wanted}


def test_what_is_not_known_is_no_metric(mlflow_sqlite: str, model: str) -> None:
    registered(mlflow_sqlite, model)
    ShadowExperiment(mlflow_sqlite).write(unknown_report(model=model, candidate=PackageRef(model, 1, "1.3.0", "d" * 64)))
    metrics = runs_of(mlflow_sqlite, model)[0].data.metrics
    assert (0.0, 0.0) == (metrics["pairs"], metrics["error_rate.observations"])
    assert not {"psi", "agreement_pct", "error_rate.effect", "latency_p99.upper", "candidate.total.p99_us"} & metrics.keys()


def test_the_same_release_again_updates_its_run(mlflow_uri: str, model: str, tmp_path: Path) -> None:
    report = harmed(mlflow_uri, model)
    first = ShadowExperiment(mlflow_uri).write(report)
    again = replace(report, verdict=Verdict.UNKNOWN, reason="it was stopped", pairs=1)
    assert first == ShadowExperiment(mlflow_uri).write(again)
    (run,) = runs_of(mlflow_uri, model)
    page = connect(mlflow_uri).download_artifacts(first, "report.html", str(tmp_path))
    assert ("UNKNOWN", "it was stopped", 1.0) == (
        run.data.tags["hotcold.verdict"],
        run.data.tags["hotcold.reason"],
        run.data.metrics["pairs"],
    )
    assert shadow_page(again) == Path(page).read_text(encoding="utf-8")
    assert "UNKNOWN" == connect(mlflow_uri).get_model_version(model, "1").tags["hotcold.shadow.verdict"]


def test_another_release_is_another_run(mlflow_sqlite: str, model: str) -> None:
    report = harmed(mlflow_sqlite, model)
    ShadowExperiment(mlflow_sqlite).write(report)
    ShadowExperiment(mlflow_sqlite).write(replace(report, release="another"))
    assert 2 == len(runs_of(mlflow_sqlite, model))


def test_foreign_words_are_cut_to_what_mlflow_takes(mlflow_sqlite: str, model: str) -> None:
    report = harmed(mlflow_sqlite, model, reason="x" * 10_000 + "\ud800")
    odd = replace(report.findings[0], signal="größe: 1|2")
    ShadowExperiment(mlflow_sqlite).write(replace(report, findings=(odd,)))
    (run,) = runs_of(mlflow_sqlite, model)
    assert 5000 == len(run.data.tags["hotcold.reason"])
    assert "gr__e_ 1_2.effect" in run.data.metrics


def test_an_mlflow_that_is_away_is_named(model: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(RegistryError, match="does not answer"):
            ShadowExperiment(address).write(harm_report(model=model))


def test_a_version_that_the_registry_lacks_is_named_and_the_run_stays(mlflow_sqlite: str, model: str) -> None:
    with pytest.raises(RegistryError, match=f"cannot tag version 7 of {model} with its verdict"):
        ShadowExperiment(mlflow_sqlite).write(harm_report(model=model))
    assert ["FINISHED"] == [run.info.status for run in runs_of(mlflow_sqlite, model)]


def test_a_release_with_a_quote_is_refused(mlflow_sqlite: str, model: str) -> None:
    """It would end the text in MLflow's search."""
    with pytest.raises(RegistryError, match="a quote is not allowed"):
        ShadowExperiment(mlflow_sqlite).write(harm_report(model=model, release="a' or tags.`x` = 'b"))
    assert [] == runs_of(mlflow_sqlite, model)
