"""Prefect's REST API, as far as the command line and services need it: start a run of a deployment and see how it ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from hotcold.domain.errors import StackError

_TIMEOUT_S = 10.0
_BUSY_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


@dataclass(frozen=True)
class FlowRun:
    """A run of a deployment.

    Args:
        id: its id.
        name: its name, for people.
        state: SCHEDULED, PENDING, RUNNING, COMPLETED, FAILED, CRASHED, CANCELLED and the like.
        message: what the state says about itself; empty if nothing.
        started_at: when its flow began to run, seconds since the epoch; None before that.
        run_s: seconds that it ran.
    """

    id: str
    name: str
    state: str
    message: str
    started_at: float | None = None
    run_s: float = 0.0

    @property
    def ended(self) -> bool:
        """It will not change any more."""
        return self.state in _FINAL


class PrefectApi:
    """A client of one Prefect server.

    Args:
        api_url: address of the API, such as `http://127.0.0.1:4200/api`.
    """

    def __init__(self, api_url: str) -> None:
        self._url = api_url
        self._client = httpx.Client(base_url=api_url, timeout=_TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def start(self, deployment: str, parameters: Mapping[str, Any], key: str = "") -> FlowRun:
        """Start a run now; with a key that was used before, the run of then is given instead, as it stands.

        Args:
            deployment: flow and deployment name, such as `cut-over/cut-over`.
            parameters: of the flow, as JSON values; those left out take their defaults.
            key: Prefect's idempotency key; empty: always a new run.

        Raises:
            StackError: the server cannot be reached, has no such deployment, or refuses the parameters.
        """
        found = self._ask("GET", f"/deployments/name/{deployment}")
        body = {"parameters": dict(parameters), "state": {"type": "SCHEDULED"}} | ({"idempotency_key": key} if key else {})
        return _flow_run(self._ask("POST", f"/deployments/{found['id']}/create_flow_run", body))

    def read(self, run_id: str) -> FlowRun:
        """A run as it stands.

        Raises:
            StackError: the server cannot be reached or does not know the run.
        """
        return _flow_run(self._ask("GET", f"/flow_runs/{run_id}"))

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, json=body)
            for pause_s in _BUSY_PAUSES_S:
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    break
                # Its database was busy; nothing was done.
                time.sleep(pause_s)
                answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise StackError(
                f"Prefect at {self._url} does not answer ({type(error).__name__}); see `hotcold status` and "
                "`hotcold logs prefect-server`"
            ) from error
        if answer.is_success:
            return dict(answer.json())
        raise StackError(f"Prefect refused {method} {path} with {answer.status_code}: {_detail(answer)}")


def _detail(answer: httpx.Response) -> str:
    if answer.status_code == 404:
        return "it does not know it; run `hotcold up`, which deploys everything"
    try:
        return str(answer.json().get("detail", answer.text))[:500]
    except ValueError:
        return answer.text[:500]


def _flow_run(document: Mapping[str, Any]) -> FlowRun:
    state = document.get("state") or {}
    start = document.get("start_time")
    return FlowRun(
        document["id"],
        document["name"],
        state.get("type") or "SCHEDULED",
        state.get("message") or "",
        datetime.fromisoformat(start).timestamp() if start else None,
        float(document.get("total_run_time") or 0.0),
    )
