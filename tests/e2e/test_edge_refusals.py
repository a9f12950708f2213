"""What consumers send wrongly, through the edge: always a 4xx problem document, and the same replicas afterwards."""

from __future__ import annotations

import httpx
import pytest

from hotcold.domain.package import Manifest
from hotcold.domain.plan import Plan
from tests.e2e.test_scorer import BAD, GOOD_BODY, PREDICT
from tests.fixtures.data_plane import DataPlane

pytestmark = pytest.mark.e2e

# Of the edge itself: method, path, body, headers, status.
AT_THE_EDGE = {
    "unknown model": ("POST", "/models/nobody/predict", GOOD_BODY, {}, 404),
    "unknown path": ("GET", "/etc/passwd", b"", {}, 404),
    "server internals": ("GET", "/metrics", b"", {}, 404),
    "wrong method": ("DELETE", PREDICT, b"", {}, 405),
    "2 MB": ("POST", PREDICT, bytes(2_000_000), {}, 413),
    "escaped slash": ("POST", "/models/x%2fpredict", GOOD_BODY, {}, 404),
    "header with underscore": ("POST", PREDICT, GOOD_BODY, {"x_entity": "1"}, 400),
}


def test_every_wrong_request_is_a_4xx_and_harms_nobody(data_plane: DataPlane, small_package: Manifest) -> None:
    data_plane.promote(small_package, Plan(replicas=1, bake_s=0))
    before = {replica.process.pid for replica in data_plane.replicas()}
    url = data_plane.record.edge_url
    for name, (path, body, headers, status, _) in BAD.items():
        # A broken path is refused by the edge already, before anybody asks what is served there.
        check(name, "POST", url + path, body, headers, 400 if "%00" in path else status)
    for name, (method, path, body, headers, status) in AT_THE_EDGE.items():
        check(name, method, url + path, body, headers, status)
    good = httpx.post(url + PREDICT, content=GOOD_BODY, headers={"content-type": "application/json"}, trust_env=False)
    assert 200 == good.status_code
    assert before == {replica.process.pid for replica in data_plane.replicas()}


def check(name: str, method: str, url: str, body: bytes, headers: dict[str, str], status: int) -> None:
    sent = {"content-type": "application/json", **headers}
    answer = httpx.request(method, url, content=body, headers=sent, trust_env=False)
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"]), name
    assert status == answer.json()["status"] and answer.json()["detail"], name
