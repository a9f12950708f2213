"""join-labels in a real Prefect, on the settings' own log: by hand, on schedule, and when something is wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from prefect import State
from prefect.exceptions import ParameterTypeError

from flows.join_labels import join_labels
from hotcold.adapters.label_state import STATE_FILE
from hotcold.adapters.label_store import LabelStore
from hotcold.domain.errors import BadInputError, LabelError
from hotcold.settings import Settings
from tests.fixtures.flow_runs import artifacts
from tests.fixtures.labels import write_labels
from tests.fixtures.prediction_logs import MODEL, answer, write_segment

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An hour ago four requests arrived, were copied to a shadow, and one test was made."""
    monkeypatch.setenv("HOTCOLD_HOME", str(tmp_path / "home"))
    root, at_s = Settings().prediction_dir, time.time() - 3600
    served = [answer(number, at_s=at_s + number / 100) for number in range(4)]
    write_segment(root, [[*served, answer(9, at_s=at_s, tester=True)]], started_s=at_s)
    copies = [answer(number, at_s=at_s + number / 100 + 0.005, shadow=True) for number in range(4)]
    write_segment(root, [copies], writer="w2", started_s=at_s)
    return tmp_path / "truth"


def join(model: str = MODEL, **given: Any) -> State:
    return join_labels(model=model, return_state=True, **given)


def by_id(truth: Path) -> dict[str, str]:
    return {"labels_url": str(truth), "label_column": "late", "request_id_column": "id"}


def labels(model: str = MODEL) -> dict[str, float]:
    table = LabelStore(Settings().label_dir, model).read()
    return dict(zip(table["request_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def report() -> dict[str, Any]:
    found = max(artifacts(f"labels-{MODEL}"), key=lambda artifact: artifact.created)
    return {row["measure"]: row["value"] for row in orjson.loads(found.data)}


def test_labels_are_joined_and_shown(truth: Path) -> None:
    ids = ["w1-0", "w1-1", "w1-1", "w1-2", "w1-2", "w1-3", "nobody"]
    write_labels(truth / "a.parquet", id=ids, late=[1, 0, 0, 0, 1, float("nan"), 1])
    state = join(**by_id(truth))
    assert state.is_completed() and {"w1-0": 1.0, "w1-1": 0.0} == labels()
    shown = report()
    assert {
        "joined": 2,
        "unknown": 1,
        "repeated": 1,
        "contradicting": 1,
        "invalid": 1,
        "early": 0,
        "coverage (%)": 50.0,
        "labelled": 2,
        "served": 4,
        "left out": 1,
    }.items() <= shown.items()
    assert 3500 < shown["delay p50 (s)"] < 3700 and 3500 < shown["delay p95 (s)"] < 3700


def test_the_scheduled_run_joins_what_is_new_where_labels_came_from_last(truth: Path) -> None:
    write_labels(truth / "a.parquet", id=["w1-0"], late=[1])
    assert join(**by_id(truth)).is_completed()
    write_labels(truth / "b.parquet", id=["w1-1"], late=[0])
    state = join("")
    assert (True, {"w1-0": 1.0, "w1-1": 0.0}) == (state.is_completed(), labels())
    assert (50.0, 1, 0) == tuple(report()[name] for name in ("coverage (%)", "joined", "known"))


def test_what_is_left_empty_is_as_it_was(truth: Path) -> None:
    write_labels(truth / "a.parquet", id=["w1-0"], late=[1])
    assert "Skipped" == join().name
    assert join(**by_id(truth)).is_completed()
    write_labels(truth / "b.parquet", id=["w1-1"], late=[0])
    assert join().is_completed() and 2 == len(labels())


def test_a_run_that_is_not_to_be_remembered_is_not(truth: Path) -> None:
    write_labels(truth / "a.parquet", id=["w1-0"], late=[1])
    assert join(**by_id(truth), remember=False).is_completed() and 1 == len(labels())
    assert "Skipped" == join().name
    assert (True, "0 labels joined") == ((state := join("")).is_completed(), state.message)


def test_by_entity_and_time(truth: Path) -> None:
    write_labels(truth / "a.parquet", flight=["UA0", "UA1"], late=[1, 0], sent=[time.time() - 3600] * 2)
    given = {"label_column": "late", "entity_column": "flight", "time_column": "sent", "tolerance_s": 30.0}
    assert join(labels_url=str(truth), **given).is_completed()
    assert {"w1-0": 1.0, "w1-1": 0.0} == {ident: label for ident, label in labels().items() if ident in ("w1-0", "w1-1")}


def test_a_file_that_cannot_be_read_fails_the_run_and_the_others_are_joined(truth: Path) -> None:
    write_labels(truth / "a.parquet", id=["w1-0"], late=[1])
    (truth / "b.parquet").write_bytes(b"PAR1 and no more")
    state = join(**by_id(truth))
    assert (True, {"w1-0": 1.0}) == (state.is_failed(), labels())
    assert state.message is not None and "1 cannot be read" in state.message and "b.parquet" in state.message
    assert str(truth / "b.parquet") in str(report()["unreadable file"])
    assert join("").is_failed()
    (truth / "b.parquet").unlink()
    assert join("").is_completed()


def test_what_is_wrong_with_one_model_does_not_keep_the_others(truth: Path) -> None:
    write_labels(truth / "a.parquet", id=["w1-0"], late=[1])
    assert join(**by_id(truth)).is_completed() and join("another", **by_id(truth)).is_completed()
    (Settings().label_dir / "another" / STATE_FILE).write_bytes(b"damaged")
    write_labels(truth / "b.parquet", id=["w1-1"], late=[0])
    state = join("")
    assert (True, 2) == (state.is_failed(), len(labels()))
    assert state.message is not None and state.message.startswith("1 labels joined, but 1") and "another" in state.message


def test_parameters_that_contradict_each_other_are_refused(truth: Path) -> None:
    with pytest.raises(LabelError, match="by request_id_column, or by entity_column and time_column"):
        join_labels(MODEL, **(by_id(truth) | {"time_column": "sent"}))
    with pytest.raises(BadInputError, match="there is nothing at"):
        join_labels(MODEL, **by_id(truth))
    with pytest.raises(ParameterTypeError):
        join_labels("../elsewhere", **by_id(truth))
    # None of these is where the scheduled run looks.
    assert "Skipped" == join().name
