"""When each process of the stack is really ready, as one question per process; answers come from the process itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import yaml

from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.release_reader import NODE_TIMEOUT_S
from hotcold.adapters.stack_environment import checkout_root
from hotcold.adapters.stack_processes import WEBHOOK, WORK_POOL
from hotcold.adapters.stack_record import StackRecord
from hotcold.domain.errors import DatabaseError
from hotcold.settings import Settings

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Check:
    """One question.

    Args:
        name: the process that is asked.
        is_ready: answers at once or within seconds; false for a process that is not there.
    """

    name: str
    is_ready: Callable[[], bool]


def readiness_checks(settings: Settings, record: StackRecord, since: float) -> tuple[Check, ...]:
    """Questions to a stack.

    Args:
        settings: of this installation.
        record: where its processes listen.
        since: seconds since the epoch; signs of life from before do not count.
    """
    api = record.prefect_api_url
    # MLflow opens its database with the first question that needs it.
    experiments = f"{record.mlflow_url}/api/2.0/mlflow/experiments/search?max_results=1"
    webhook = (Check(WEBHOOK, lambda: _answers(f"http://127.0.0.1:{record.webhook_port}/health")),)
    return (
        Check("envoy", lambda: _answers(f"http://127.0.0.1:{record.admin_port}/ready")),
        Check("agent", lambda: _agent_reports(settings, record, since)),
        Check("mlflow-server", lambda: _answers(experiments)),
        Check("prefect-server", lambda: _answers(f"{api}/health")),
        Check("worker", lambda: _worker_is_online(api, f"{WORK_POOL}-{settings.node}", since)),
        *(webhook if settings.promote_on_alias else ()),
    )


def missing_deployments(record: StackRecord) -> frozenset[str]:
    """Names in `deployments/prefect.yaml` that the Prefect server does not know; all of them if it does not answer."""
    document = yaml.safe_load((checkout_root() / "deployments" / "prefect.yaml").read_text())
    wanted = frozenset(entry["name"] for entry in document["deployments"])
    return wanted - {entry["name"] for entry in _ask(f"{record.prefect_api_url}/deployments/filter", {"limit": 200})}


def _worker_is_online(api: str, name: str, since: float) -> bool:
    for worker in _ask(f"{api}/work_pools/{WORK_POOL}/workers/filter", {}):
        beat = worker.get("last_heartbeat_time")
        if worker["name"] == name and worker["status"] == "ONLINE" and beat:
            return datetime.fromisoformat(beat).timestamp() >= since
    return False


def _agent_reports(settings: Settings, record: StackRecord, since: float) -> bool:
    database = ReleaseDatabase(settings.release_database_url)
    try:
        # As of this moment, what was seen before `since` is no longer live.
        return record.edge_url in database.read_edges(max(since + NODE_TIMEOUT_S, time.time()))
    except DatabaseError:
        return False
    finally:
        database.close()


def _answers(url: str) -> bool:
    try:
        with _client() as client:
            return client.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def _ask(url: str, question: dict[str, object]) -> list[dict[str, Any]]:
    try:
        with _client() as client:
            answer = client.post(url, json=question)
        return list(answer.json()) if answer.status_code == 200 else []
    except (httpx.HTTPError, ValueError):
        return []


def _client() -> httpx.Client:
    # Plain HTTP on loopback: no proxy, and no certificates, which take longer to load than the answer to come.
    return httpx.Client(timeout=_TIMEOUT_S, trust_env=False, verify=False)  # noqa: S501
