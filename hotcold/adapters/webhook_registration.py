"""Tells MLflow where this installation takes its webhook. By MLflow's REST API: services do not load MLflow itself."""

from __future__ import annotations

from typing import Any

import httpx

from hotcold.domain.errors import RegistryError
from hotcold.domain.registry_event import EVENTS

_TIMEOUT_S = 10.0
_PAGE = 100
_PATH = "/api/2.0/mlflow/webhooks"


def register_webhook(mlflow_url: str, name: str, url: str, secret: str) -> str:
    """Have MLflow tell of every alias that is set or taken away; a second call finds the first one's webhook.

    Args:
        mlflow_url: address of the MLflow server.
        name: of the webhook; one that is there is brought up to date, secret included.
        url: where MLflow is to send to.
        secret: MLflow is to sign with it.

    Returns:
        Id of the webhook.

    Raises:
        RegistryError: MLflow cannot be reached or refuses.
    """
    events = [{"entity": entity.upper(), "action": action.upper()} for entity, action in EVENTS]
    wanted = {"name": name, "url": url, "events": events, "secret": secret, "status": "ACTIVE"}
    # Loopback or an intranet: no proxy.
    with httpx.Client(base_url=mlflow_url, timeout=_TIMEOUT_S, trust_env=False) as client:
        known = _find(client, name)
        if known:
            return str(_ask(client, "PATCH", f"{_PATH}/{known}", json=wanted)["webhook"]["webhook_id"])
        return str(_ask(client, "POST", _PATH, json=wanted)["webhook"]["webhook_id"])


def _find(client: httpx.Client, name: str) -> str:
    token = ""
    while True:
        page = _ask(client, "GET", _PATH, params={"max_results": _PAGE} | ({"page_token": token} if token else {}))
        for webhook in page.get("webhooks", ()):
            if webhook["name"] == name:
                return str(webhook["webhook_id"])
        token = page.get("next_page_token", "")
        if not token:
            return ""


def _ask(client: httpx.Client, method: str, path: str, **request: Any) -> dict[str, Any]:
    try:
        answer = client.request(method, path, **request)
    except httpx.HTTPError as error:
        raise RegistryError(
            f"MLflow at {client.base_url} does not answer ({type(error).__name__}); see `hotcold logs mlflow-server`"
        ) from error
    if answer.is_success:
        return dict(answer.json())
    raise RegistryError(
        f"MLflow refused {method} {path} with {answer.status_code}: {answer.text[:200]}; polling starts promotions meanwhile"
    )
