"""What a comparison shows in the Prefect UI and in MLflow, and that it goes on where MLflow cannot be reached."""

from __future__ import annotations

import base64
import json
import re

import pytest

from hotcold.adapters.mlflow_client import connect
from hotcold.domain.errors import RegistryError
from hotcold.domain.package import PackageRef
from tasks.shadow_report import log_shadow_if_reachable, log_shadow_to_mlflow, publish_shadow_report
from tests.fixtures.flow_runs import artifacts, in_a_flow
from tests.fixtures.shadow_reports import harm_report, labelled_report, unknown_report

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_the_report_is_a_page_and_a_table_of_the_gates() -> None:
    in_a_flow(lambda: publish_shadow_report(harm_report(model="shown")))
    (page,), (gates,) = artifacts("shadow-shown"), artifacts("shadow-gates-shown")
    table = json.loads(gates.data)

    assert ("markdown", "table") == (page.type, gates.type)
    assert page.data.startswith("# HARM: 1.3.0 must not replace 1.2.0\n")
    assert page.description.startswith("HARM: 1.3.0 must not replace 1.2.0. error_rate is HARM: ")
    assert ["check", "verdict", "required", "observed", "allowed"] == list(table[0])
    assert ("error rate", "HARM", "yes", "1 %") == tuple(table[0][name] for name in ("check", "verdict", "required", "allowed"))
    assert 10 == len(table)
    assert page.flow_run_id == gates.flow_run_id is not None


def test_prefect_keeps_the_pictures_as_they_are() -> None:
    in_a_flow(lambda: publish_shadow_report(labelled_report(model="pictured")))
    (page,) = artifacts("shadow-pictured")
    pictures = re.findall(r"!\[[^\n]*\]\(data:image/png;base64,([^)]+)\)", page.data)
    assert 4 == len(pictures)
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert "<script>" not in page.data


def test_a_comparison_without_pairs_can_be_shown() -> None:
    in_a_flow(lambda: publish_shadow_report(unknown_report(model="empty")))
    (page,) = artifacts("shadow-empty")
    assert page.data.startswith("# UNKNOWN: nobody can say yet whether 1.3.0 may replace 1.2.0\n")


def test_the_comparison_is_logged_to_mlflow(mlflow_sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_sqlite)
    client = connect(mlflow_sqlite)
    client.create_registered_model("flights")
    client.create_model_version("flights", "mlflow-artifacts:/nowhere", await_creation_for=0)
    report = harm_report(candidate=PackageRef("flights", 1, "1.3.0", "d" * 64))
    run_id = in_a_flow(lambda: log_shadow_if_reachable(report))
    assert "HARM" == client.get_run(run_id).data.tags["hotcold.verdict"]
    assert "HARM" == client.get_model_version("flights", "1").tags["hotcold.shadow.verdict"]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", ""])
def test_without_mlflow_an_evaluation_warns_and_goes_on(
    uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(log_shadow_to_mlflow, "retry_delay_seconds", 0)
    assert in_a_flow(lambda: log_shadow_if_reachable(harm_report())) is None
    assert ["the comparison of release 0f0f1e1e2d2d3c3c is not in MLflow"] == [
        record.message.partition(":")[0] for record in caplog.records if "is not in MLflow" in record.message
    ]


def test_the_task_itself_says_that_mlflow_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RegistryError, match="does not answer"):
        in_a_flow(lambda: log_shadow_to_mlflow.with_options(retries=0)(harm_report()))
