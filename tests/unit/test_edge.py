"""What the edge is told: versions, weights, routes and limits, as values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotcold.domain.edge import (
    ENTITY_HEADER,
    VARIANT_HEADER,
    Document,
    EdgeModel,
    Endpoint,
    cluster_name,
    mirrored_pct,
    refuse_mirror,
    route_document,
    shadow_name,
)
from hotcold.domain.edge_clusters import cluster_document, endpoint_document, endpoint_file
from hotcold.domain.edge_listener import MAX_BODY_BYTES, Listener, bootstrap_document
from hotcold.domain.errors import EdgeError
from hotcold.domain.headers import SHADOW_HEADER
from hotcold.domain.serving import Slot

ONE, TWO, THREE = Endpoint("127.0.0.1", 4001), Endpoint("127.0.0.1", 4002), Endpoint("127.0.0.2", 4001)
MODEL = EdgeModel("m", 30, blue=(ONE,), green=(TWO,), champion=Slot.BLUE)
LISTENER = Listener("192.0.2.1", 8080, 9901, "/run/edge", "/log/errors.jsonl", "node-1")


def routes_of(*models: EdgeModel) -> list[Document]:
    return list(route_document(models)["resources"][0]["virtual_hosts"][0]["routes"])


def matches(match: Document, method: str, path: str, headers: dict[str, str]) -> bool:
    """Whether Envoy would take this route: path and header matchers are full matches."""
    if "safe_regex" in match:
        taken = re.fullmatch(match["safe_regex"]["regex"], path) is not None
    else:
        taken = path == match["path"] if "path" in match else path.startswith(match["prefix"])
    return taken and all(_has(header, headers | {":method": method}) for header in match.get("headers", []))


def _has(matcher: Document, headers: dict[str, str]) -> bool:
    value, wanted = headers.get(matcher["name"]), matcher["string_match"]
    if value is None:
        return False
    return value == wanted["exact"] if "exact" in wanted else re.fullmatch(wanted["safe_regex"]["regex"], value) is not None


def answer(models: tuple[EdgeModel, ...], method: str, path: str, headers: dict[str, str] | None = None) -> str:
    """Who answers a request: a cluster, `split <model>`, or a status of the edge's own."""
    route = next(route for route in routes_of(*models) if matches(route["match"], method, path, headers or {}))
    if "direct_response" in route:
        return str(route["direct_response"]["status"])
    if "cluster" in route["route"]:
        return str(route["route"]["cluster"])
    first = route["route"]["weighted_clusters"]["clusters"][0]["name"]
    return f"split {first.rpartition('-')[0]}"


def values_of(document: Any, key: str) -> Iterator[Any]:
    """Every value of a key, at any depth."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield value
            yield from values_of(value, key)
    elif isinstance(document, list):
        for value in document:
            yield from values_of(value, key)


def test_the_same_state_has_the_same_version() -> None:
    assert route_document([MODEL]) == route_document([replace(MODEL)])
    assert cluster_document([MODEL], "/edge") == cluster_document([replace(MODEL)], "/edge")
    assert endpoint_document("m", Slot.BLUE, [ONE]) == endpoint_document("m", Slot.BLUE, [replace(ONE)])


@given(st.permutations([ONE, TWO, THREE]))
def test_the_order_of_endpoints_changes_neither_version_nor_content(endpoints: list[Endpoint]) -> None:
    assert endpoint_document("m", Slot.BLUE, [ONE, TWO, THREE]) == endpoint_document("m", Slot.BLUE, endpoints)


@pytest.mark.parametrize(
    "other",
    [
        replace(MODEL, green_pct=31),
        replace(MODEL, green_pct=None),
        replace(MODEL, champion=Slot.GREEN),
        replace(MODEL, champion=None),
        replace(MODEL, model="n"),
        replace(MODEL, mirror_pct=1.0),
    ],
)
def test_another_route_has_another_version(other: EdgeModel) -> None:
    assert route_document([MODEL])["version_info"] != route_document([other])["version_info"]


def test_another_address_slot_or_folder_has_another_version() -> None:
    documents = [
        endpoint_document("m", Slot.BLUE, []),
        endpoint_document("m", Slot.BLUE, [ONE]),
        endpoint_document("m", Slot.BLUE, [TWO]),
        endpoint_document("m", Slot.GREEN, [ONE]),
        cluster_document([MODEL], "/edge"),
        cluster_document([MODEL], "/other"),
        cluster_document([], "/edge"),
    ]
    assert len(documents) == len({document["version_info"] for document in documents})


def test_replicas_that_come_and_go_change_neither_routes_nor_clusters() -> None:
    emptied = replace(MODEL, blue=(), green=(ONE, TWO, THREE))
    assert route_document([MODEL]) == route_document([emptied])
    assert cluster_document([MODEL], "/edge") == cluster_document([emptied], "/edge")


def test_an_endpoint_file_holds_exactly_one_resource_and_all_addresses() -> None:
    [resource] = endpoint_document("m", Slot.GREEN, [TWO, ONE])["resources"]
    [group] = resource["endpoints"]
    addresses = [entry["endpoint"]["address"]["socket_address"] for entry in group["lb_endpoints"]]
    assert "m-green" == resource["cluster_name"]
    assert [("127.0.0.1", 4001), ("127.0.0.1", 4002)] == [(found["address"], found["port_value"]) for found in addresses]


def clusters_of(*models: EdgeModel) -> dict[str, Document]:
    return {cluster["name"]: cluster for cluster in cluster_document(models, "/edge")["resources"]}


def test_each_slot_is_two_clusters_that_read_its_own_endpoint_file() -> None:
    files = {
        name: cluster["eds_cluster_config"]["eds_config"]["path_config_source"]["path"]
        for name, cluster in clusters_of(MODEL, replace(MODEL, model="n")).items()
    }
    slots = [(model, slot) for model in ("m", "n") for slot in Slot]
    names = (cluster_name, shadow_name)
    assert {name(*slot): f"/edge/{endpoint_file(*slot)}" for slot in slots for name in names} == files
    assert 4 == len(set(files.values()))


def test_every_cluster_looks_for_the_name_that_is_in_its_endpoint_file() -> None:
    for name, cluster in clusters_of(MODEL).items():
        slot = Slot.GREEN if "green" in name else Slot.BLUE
        [resource] = endpoint_document("m", slot, [ONE])["resources"]
        assert resource["cluster_name"] == cluster["eds_cluster_config"]["service_name"]


def test_no_cluster_panics_and_every_slot_is_checked_and_has_a_breaker() -> None:
    clusters = clusters_of(MODEL)
    for cluster in clusters.values():
        assert {"value": 0} == cluster["common_lb_config"]["healthy_panic_threshold"]
        assert {"max_connections", "max_pending_requests", "max_requests"} <= set(cluster["circuit_breakers"]["thresholds"][0])
    for slot in Slot:
        assert "/readyz" == clusters[cluster_name("m", slot)]["health_checks"][0]["http_health_check"]["path"]


def test_a_shadow_may_hold_far_less_than_its_slot_for_a_shorter_time_and_is_not_probed_again() -> None:
    clusters = clusters_of(MODEL)
    for slot in Slot:
        own, shadow = clusters[cluster_name("m", slot)], clusters[shadow_name("m", slot)]
        [limits], [shadow_limits] = own["circuit_breakers"]["thresholds"], shadow["circuit_breakers"]["thresholds"]
        for limit in ("max_connections", "max_pending_requests", "max_requests"):
            assert shadow_limits[limit] * 10 < limits[limit]
        assert 0 == shadow_limits["max_retries"]
        assert "health_checks" not in shadow
        assert "outlier_detection" not in shadow
        assert ["1s"] == list(values_of(shadow, "max_stream_duration"))
        assert [] == list(values_of(own, "max_stream_duration"))


def mirrors_of(model: EdgeModel) -> dict[str, list[Document]]:
    """Mirror policies by the path's pattern."""
    return {
        route["match"]["safe_regex"]["regex"]: route["route"]["request_mirror_policies"]
        for route in routes_of(model)
        if "request_mirror_policies" in route.get("route", {})
    }


@pytest.mark.parametrize("champion", Slot)
def test_only_scoring_on_the_split_is_copied_and_only_to_the_shadow_of_the_other_slot(champion: Slot) -> None:
    mirrors = mirrors_of(replace(MODEL, champion=champion, green_pct=0, mirror_pct=25.0))
    assert {"/models/m/predict", "/v2/models/m/infer"} == set(mirrors)
    for [policy] in mirrors.values():
        assert shadow_name("m", champion.other) == policy["cluster"]
        assert {"numerator": 250_000, "denominator": "MILLION"} == policy["runtime_fraction"]["default_value"]
        [mutation] = policy["request_headers_mutations"]
        assert {"key": SHADOW_HEADER, "value": "1"} == mutation["append"]["header"]


def test_without_a_share_nothing_is_copied() -> None:
    assert {} == mirrors_of(MODEL)


def test_no_request_comes_in_with_the_header_of_a_copy() -> None:
    for model in (MODEL, replace(MODEL, mirror_pct=50.0)):
        [host] = route_document([model])["resources"][0]["virtual_hosts"]
        assert [SHADOW_HEADER] == host["request_headers_to_remove"]


@given(st.integers(1, 1_000_000))
def test_the_share_of_copies_is_read_as_it_was_written(millionths: int) -> None:
    share_pct = millionths / 10_000
    assert "" == refuse_mirror(share_pct)
    for [policy] in mirrors_of(replace(MODEL, mirror_pct=share_pct)).values():
        assert millionths == policy["runtime_fraction"]["default_value"]["numerator"]
        assert share_pct == mirrored_pct(policy)


@pytest.mark.parametrize("share_pct", [-1, 100.1, 0.00001, float("nan"), float("inf")])
def test_a_share_that_envoy_cannot_draw_is_refused(share_pct: float) -> None:
    with pytest.raises(EdgeError, match=r"allowed is 0 to 100 with at most four decimals"):
        replace(MODEL, mirror_pct=share_pct)


@pytest.mark.parametrize("missing", [{"champion": None}, {"green_pct": None}])
def test_without_a_champion_there_is_nothing_to_copy(missing: dict[str, None]) -> None:
    with pytest.raises(EdgeError, match="m has no champion whose requests could be copied"):
        replace(MODEL, mirror_pct=10.0, **missing)


def test_routes_are_named_by_who_asks() -> None:
    for path, method, name in (("/models/m/predict", "POST", "score"), ("/models/m", "GET", "read"), ("/v2", "GET", "")):
        route = next(route for route in routes_of(MODEL) if matches(route["match"], method, path, {}))
        assert name == route.get("name", "")
    headers = {VARIANT_HEADER: "green"}
    route = next(route for route in routes_of(MODEL) if matches(route["match"], "POST", "/models/m/predict", headers))
    assert "tester" == route["name"]


@pytest.mark.parametrize("green_pct", range(101))
def test_the_weights_are_the_split_and_sum_to_100(green_pct: int) -> None:
    splits = list(values_of(route_document([replace(MODEL, green_pct=green_pct)]), "weighted_clusters"))
    # Predict, information, batch scores, inference, inference by a version, and readiness.
    assert 6 == len(splits)
    for split in splits:
        weights = {cluster["name"]: cluster["weight"] for cluster in split["clusters"]}
        assert {"m-blue": 100 - green_pct, "m-green": green_pct} == weights
        assert split["use_hash_policy"]


def test_every_split_hashes_the_entity_with_the_models_name_as_salt() -> None:
    for model in ("m", "n"):
        policies = list(values_of(route_document([replace(MODEL, model=model)]), "hash_policy"))
        assert 6 == len(policies)
        for [policy] in policies:
            assert ENTITY_HEADER == policy["header"]["header_name"]
            assert f"{model}|\\0" == policy["header"]["regex_rewrite"]["substitution"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/models/m/predict"),
        ("GET", "/models/m"),
        ("HEAD", "/models/m"),
        ("GET", "/models/m/scores/customer-1"),
        ("HEAD", "/models/m/scores/a%2Fb"),
        ("POST", "/v2/models/m/infer"),
        ("POST", "/v2/models/m/versions/1.0.0/infer"),
        ("GET", "/v2/models/m"),
        ("GET", "/v2/models/m/ready"),
        ("HEAD", "/v2/models/m/versions/1.0.0"),
        ("GET", "/v2/models/m/versions/1.0.0/ready"),
    ],
)
def test_a_models_paths_are_split_and_led_by_the_testers_header(method: str, path: str) -> None:
    assert "split m" == answer((MODEL,), method, path)
    for value, cluster in {"blue": "m-blue", "green": "m-green", "champion": "m-blue", "candidate": "m-green"}.items():
        assert cluster == answer((MODEL,), method, path, {VARIANT_HEADER: value})
    # A value that leads nowhere is no reason to refuse.
    assert "split m" == answer((MODEL,), method, path, {VARIANT_HEADER: "purple"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/models/m/predict"),
        ("DELETE", "/models/m/predict"),
        ("POST", "/models/m"),
        ("PUT", "/models/m/scores/customer-1"),
        ("GET", "/v2/models/m/infer"),
        ("PUT", "/v2/models/m/versions/1.0.0/infer"),
        ("POST", "/v2/models/m"),
        ("POST", "/v2/models/m/ready"),
        ("POST", "/v2"),
        ("POST", "/v2/health/live"),
        ("DELETE", "/v2/health/ready"),
        # Method matchers are full matches too.
        ("POSTX", "/models/m/predict"),
        ("GETHEAD", "/models/m"),
    ],
)
def test_another_method_is_refused_and_the_answer_says_what_is_allowed(method: str, path: str) -> None:
    for headers in ({}, {VARIANT_HEADER: "green"}):
        assert "405" == answer((MODEL,), method, path, headers)
    route = next(route for route in routes_of(MODEL) if matches(route["match"], method, path, {}))
    [allow] = route["response_headers_to_add"]
    assert "allow" == allow["header"]["key"]
    for allowed in allow["header"]["value"].split(", "):
        assert "405" != answer((MODEL,), allowed, path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/models",
        "/models/",
        "/models/mm",
        "/models/m/",
        "/models/m/predictx",
        "/models/m/predict/",
        "/models/other/predict",
        "/x/models/m/predict",
        "/v2/",
        "/v2/models",
        "/v2/models/m/inferx",
        "/v2/models/m/versions",
        "/v2/models/m/versions//infer",
        "/v2/models/m/versions/1/2/infer",
        "/v2/models/m/readyz",
        "/v2/health",
        "/v2/health/livez",
        "/readyz",
        "/metrics",
    ],
)
def test_any_other_path_is_unknown_whatever_the_method(path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        for headers in ({}, {VARIANT_HEADER: "green"}):
            assert "404" == answer((MODEL,), method, path, headers)


def test_the_edge_answers_for_itself_without_any_model() -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready"):
        assert "200" == answer((), "GET", path)
    assert "404" == answer((), "POST", "/models/m/predict")


def test_a_model_that_is_not_routed_answers_testers_only() -> None:
    unrouted = replace(MODEL, green_pct=None, champion=None)
    for method, path in (("POST", "/models/m/predict"), ("GET", "/models/m"), ("POST", "/v2/models/m/infer")):
        assert "503" == answer((unrouted,), method, path)
        assert "503" == answer((unrouted,), method, path, {VARIANT_HEADER: "candidate"})
        assert "m-green" == answer((unrouted,), method, path, {VARIANT_HEADER: "green"})
        assert "405" == answer((unrouted,), "DELETE", path)
    assert [] == list(values_of(route_document([unrouted]), "weighted_clusters"))


def test_the_roles_follow_the_champion() -> None:
    after = replace(MODEL, champion=Slot.GREEN)
    assert "m-green" == answer((after,), "POST", "/models/m/predict", {VARIANT_HEADER: "champion"})
    assert "m-blue" == answer((after,), "POST", "/models/m/predict", {VARIANT_HEADER: "candidate"})


def test_two_models_answer_on_their_own_paths() -> None:
    models = (MODEL, replace(MODEL, model="m-blue"))
    assert "split m" == answer(models, "POST", "/models/m/predict")
    assert "split m-blue" == answer(models, "POST", "/models/m-blue/predict")


def test_a_request_is_sent_again_only_where_no_replica_can_have_answered_it() -> None:
    policies = list(values_of(route_document([MODEL]), "retry_policy"))
    assert 30 == len(policies)
    assert {"connect-failure,refused-stream,reset"} == {policy["retry_on"] for policy in policies}
    assert {"5s"} == {route["route"]["timeout"] for route in routes_of(MODEL) if "route" in route}


@pytest.mark.parametrize("name", ["", "M", "-m", "m_n", "m/n", "m.n", "m n", ".*", "m\n", "é", "m" * 62])
def test_a_name_that_could_reach_into_a_path_or_pattern_is_refused(name: str) -> None:
    with pytest.raises(EdgeError, match=r"the model name is .*; allowed are a-z, 0-9 and -, 1 to 61 characters"):
        EdgeModel(name, 0)


@pytest.mark.parametrize("name", ["m", "0", "new-york-delays", "m" * 61])
def test_a_plain_name_is_taken(name: str) -> None:
    assert name == EdgeModel(name, 0).model


def test_a_long_name_is_not_repeated_in_full() -> None:
    with pytest.raises(EdgeError) as refused:
        EdgeModel("x" * 10_000, 0)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("green_pct", [-1, 101, 1000])
def test_a_share_outside_0_to_100_is_refused(green_pct: int) -> None:
    with pytest.raises(EdgeError, match=f"the share of green is {green_pct} %; allowed is 0 to 100"):
        EdgeModel("m", green_pct)


def test_the_bootstrap_bounds_body_headers_times_connections_and_memory() -> None:
    document = bootstrap_document(replace(LISTENER, max_connections=77, max_heap_bytes=88))
    [edge] = document["static_resources"]["listeners"]
    assert MAX_BODY_BYTES == edge["per_connection_buffer_limit_bytes"] == 1 << 20
    manager = edge["filter_chains"][0]["filters"][0]["typed_config"]
    limit, router = manager["http_filters"]
    assert MAX_BODY_BYTES == limit["typed_config"]["max_request_bytes"]
    assert "envoy.filters.http.router" == router["name"]
    assert {"2s", "10s", "15s"} == {
        manager[name] for name in ("request_headers_timeout", "request_timeout", "stream_idle_timeout")
    }
    assert 32 == manager["max_request_headers_kb"]
    assert 64 == manager["common_http_protocol_options"]["max_headers_count"]
    assert manager["normalize_path"] and manager["merge_slashes"]
    assert "KEEP_UNCHANGED" == manager["path_with_escaped_slashes_action"]
    assert [77] == list(values_of(document, "max_active_downstream_connections"))
    assert [88] == list(values_of(document, "max_heap_size_bytes"))


def test_only_the_listener_leaves_loopback() -> None:
    document = bootstrap_document(LISTENER)
    addresses = [(found["address"], found["port_value"]) for found in values_of(document, "socket_address")]
    assert [("127.0.0.1", 9901), ("192.0.2.1", 8080)] == addresses
    assert ("127.0.0.1", 9901) == tuple(document["admin"]["address"]["socket_address"].values())


def test_every_refusal_of_the_edge_is_a_problem_document() -> None:
    document = bootstrap_document(LISTENER)
    formats = [found for found in values_of(document, "body_format_override") if "json_format" in found]
    formats += list(values_of(document, "body_format"))
    assert 10 == len(formats)
    for found in formats:
        assert "application/problem+json" == found["content_type"]
        assert {"type", "title", "status", "detail", "instance", "request_id"} == set(found["json_format"])


def test_the_watched_files_lie_in_the_folder_and_everything_is_plain_json() -> None:
    document = bootstrap_document(LISTENER)
    sources = list(values_of(document, "path_config_source"))
    assert {"/run/edge/cds.json", "/run/edge/rds.json"} == {source["path"] for source in sources}
    assert {"/run/edge"} == {source["watched_directory"]["path"] for source in sources}
    for found in (document, route_document([MODEL]), cluster_document([MODEL], "/edge")):
        assert found == json.loads(json.dumps(found))
