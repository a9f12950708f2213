"""The edge as values: what Envoy is to do, and the JSON that says so.

Clusters, endpoints and routes are files that Envoy watches. Their `version_info` is a hash of their content, so the same state
always has the same version, and Envoy's own report tells whether it took it. Endpoints are files of their own: replacing a
replica changes one of them and leaves cluster, connections and counters of the others alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hotcold.domain.errors import EdgeError
from hotcold.domain.headers import ENTITY_HEADER, VARIANT_HEADER
from hotcold.domain.serving import Slot

ROUTES = "hotcold"
REQUEST_TIMEOUT_S = 5
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
_TYPE = "type.googleapis.com/envoy"

Document = dict[str, Any]


@dataclass(frozen=True, order=True)
class Endpoint:
    """Address of one replica."""

    host: str
    port: int


@dataclass(frozen=True)
class EdgeModel:
    """One model at the edge.

    Args:
        model: registered model name.
        green_pct: share of entities that green answers; None: the model takes no requests but those of testers.
        blue: replicas that may be asked, in order.
        green: replicas that may be asked, in order.
        champion: slot that the header value `champion` leads to.
    """

    model: str
    green_pct: int | None
    blue: tuple[Endpoint, ...] = ()
    green: tuple[Endpoint, ...] = ()
    champion: Slot | None = None

    def __post_init__(self) -> None:
        if reason := refuse_name(self.model):
            raise EdgeError(reason)
        if self.green_pct is not None and not 0 <= self.green_pct <= 100:
            raise EdgeError(f"the share of green is {self.green_pct} %; allowed is 0 to 100")

    def endpoints(self, slot: Slot) -> tuple[Endpoint, ...]:
        """Replicas of a slot that may be asked."""
        return self.green if slot is Slot.GREEN else self.blue


def refuse_name(model: str) -> str:
    """Why a model cannot be served under its name; empty if it can. Names become parts of paths, patterns and file names."""
    if MODEL_NAME.fullmatch(model):
        return ""
    return f"the model name is {model[:80]!r}; allowed are a-z, 0-9 and -, 1 to 61 characters"


def cluster_name(model: str, slot: Slot) -> str:
    """Name of a slot's cluster."""
    return f"{model}-{slot.value}"


def endpoint_file(model: str, slot: Slot) -> str:
    """Name of the file with a slot's endpoints."""
    return f"eds-{cluster_name(model, slot)}.json"


def endpoint_document(model: str, slot: Slot, endpoints: Sequence[Endpoint]) -> Document:
    """Endpoints of one cluster; Envoy takes exactly one resource in such a file."""
    addresses = [
        {"endpoint": {"address": {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}}}
        for endpoint in sorted(endpoints)
    ]
    return _versioned(
        [
            {
                "@type": f"{_TYPE}.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": cluster_name(model, slot),
                "endpoints": [{"lb_endpoints": addresses}],
            }
        ]
    )


def cluster_document(models: Sequence[EdgeModel], folder: str) -> Document:
    """Two clusters for each model.

    Args:
        models: all models at the edge.
        folder: where the endpoint files are, as Envoy sees it.
    """
    return _versioned([_cluster(model.model, slot, folder) for model in models for slot in Slot])


def _cluster(model: str, slot: Slot, folder: str) -> Document:
    return {
        "@type": f"{_TYPE}.config.cluster.v3.Cluster",
        "name": cluster_name(model, slot),
        "type": "EDS",
        "eds_cluster_config": {
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": f"{folder}/{endpoint_file(model, slot)}",
                    "watched_directory": {"path": folder},
                },
            }
        },
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [_BREAKER]},
        "outlier_detection": _OUTLIERS,
        "health_checks": [_HEALTH_CHECK],
        "common_lb_config": {
            # Panic would send requests to replicas that are known to be down.
            "healthy_panic_threshold": {"value": 0},
            # By default workers hear of health changes up to a second late: too late for a replica that just became ready.
            "update_merge_window": "0s",
        },
        # The agent takes an address away on purpose; requests in flight still end on it.
        "ignore_health_on_host_removal": True,
        "track_cluster_stats": {"timeout_budgets": True, "per_endpoint_stats": True},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _UPSTREAM_HTTP},
    }


_UPSTREAM_HTTP: Document = {
    "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
    # Shorter than a replica keeps an idle connection, so that no request meets one that is just being closed.
    "common_http_protocol_options": {"idle_timeout": "60s"},
    "explicit_http_config": {"http_protocol_options": {}},
}


_BREAKER: Document = {
    "priority": "DEFAULT",
    "max_connections": 512,
    "max_pending_requests": 256,
    "max_requests": 512,
    "track_remaining": True,
    "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 16},
}
_OUTLIERS: Document = {
    "consecutive_5xx": 20,
    "consecutive_gateway_failure": 5,
    "interval": "1s",
    "base_ejection_time": "2s",
    "max_ejection_percent": 50,
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 3,
    "always_eject_one_host": False,
}
_HEALTH_CHECK: Document = {
    "timeout": "1s",
    "interval": "1s",
    "no_traffic_interval": "1s",
    "unhealthy_interval": "0.5s",
    "unhealthy_threshold": 2,
    "healthy_threshold": 1,
    "http_health_check": {"path": "/readyz"},
}


def route_document(models: Sequence[EdgeModel]) -> Document:
    """All routes: what each model answers, what the edge answers itself, and a 404 for the rest."""
    routes = [*_SERVER_ROUTES, *(route for model in models for route in _model_routes(model)), _NOT_FOUND]
    return _versioned(
        [
            {
                "@type": f"{_TYPE}.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                "validate_clusters": True,
                "virtual_hosts": [
                    {"name": "models", "domains": ["*"], "include_request_attempt_count": False, "routes": routes}
                ],
            }
        ]
    )


def _direct(status: int, body: Document | None = None) -> Document:
    answer: Document = {"status": status}
    if body is not None:
        answer["body"] = {"inline_string": json.dumps(body)}
    return {"direct_response": answer}


def _refused(reason: str) -> Document:
    """A 503 that the listener makes a problem document of; the reason is its detail."""
    return {"direct_response": {"status": 503, "body": {"inline_string": reason}}}


def _header(name: str, value: str) -> Document:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _method(*allowed: str) -> Document:
    return {"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(allowed)}}}


def _answers(path: str, body: Document) -> list[Document]:
    """A path that the edge answers itself, and a 405 for other methods."""
    json_type = [_header("content-type", "application/json")]
    return [
        {
            "match": {"path": path, "headers": [_method("GET", "HEAD")]},
            **_direct(200, body),
            "response_headers_to_add": json_type,
        },
        {"match": {"path": path}, **_direct(405), "response_headers_to_add": [_header("allow", "GET, HEAD")]},
    ]


_NOT_FOUND: Document = {"name": "no-such-path", "match": {"prefix": "/"}, **_direct(404)}
_SERVER_ROUTES: list[Document] = [
    *_answers("/v2", {"name": "hotcold", "version": "1", "extensions": ["binary_tensor_data"]}),
    *_answers("/v2/health/live", {"live": True}),
    *_answers("/v2/health/ready", {"ready": True}),
]


def _model_routes(model: EdgeModel) -> list[Document]:
    return [
        *_paths(model, f"/models/{model.model}/predict", "POST"),
        *_paths(model, f"/models/{model.model}", "GET|HEAD"),
        *_paths(model, f"/models/{model.model}/scores/[^/]+", "GET|HEAD"),
        *_paths(model, f"/v2/models/{model.model}(/versions/[^/]+)?/infer", "POST"),
        *_paths(model, f"/v2/models/{model.model}(/versions/[^/]+)?(/ready)?", "GET|HEAD"),
    ]


def _paths(model: EdgeModel, regex: str, methods: str) -> list[Document]:
    """One path of a model: testers' slots by header, the split, and a 405 for other methods."""
    match: Document = {"safe_regex": {"regex": regex}}
    allowed = match | {"headers": [_method(methods)]}
    by_header = [_tester_route(model, allowed, value, slot) for value, slot in _variants(model)]
    split: list[Document] = [] if model.green_pct is None else [{"match": allowed, **_split(model)}]
    if model.green_pct is None:
        # Known, but nothing is released: say so rather than that there is no such model.
        split = [
            {
                "name": "nothing-released",
                "match": allowed,
                **_refused("nothing of this model is released yet"),
                "response_headers_to_add": [_header("retry-after", "5")],
            }
        ]
    refused = {
        "match": match,
        **_direct(405),
        "response_headers_to_add": [_header("allow", methods.replace("|", ", "))],
    }
    return [*by_header, *split, refused]


def _variants(model: EdgeModel) -> list[tuple[str, Slot]]:
    """Header values that lead to a slot, whatever the split is."""
    roles = [("champion", model.champion), ("candidate", model.champion.other)] if model.champion else []
    return [(slot.value, slot) for slot in Slot] + roles


def _tester_route(model: EdgeModel, match: Document, value: str, slot: Slot) -> Document:
    header = {"name": VARIANT_HEADER, "string_match": {"exact": value}}
    return {
        "match": {**match, "headers": [*match["headers"], header]},
        "route": {"cluster": cluster_name(model.model, slot), **_ROUTE},
    }


def _split(model: EdgeModel) -> Document:
    green_pct = model.green_pct or 0
    weights = {Slot.BLUE: 100 - green_pct, Slot.GREEN: green_pct}
    return {
        "route": {
            "weighted_clusters": {
                "use_hash_policy": True,
                "clusters": [{"name": cluster_name(model.model, slot), "weight": weight} for slot, weight in weights.items()],
            },
            # The model's name salts the hash, or the same entities would be in every model's canary.
            "hash_policy": [
                {
                    "header": {
                        "header_name": ENTITY_HEADER,
                        "regex_rewrite": {"pattern": {"regex": "^.*$"}, "substitution": f"{model.model}|\\0"},
                    }
                }
            ],
            **_ROUTE,
        }
    }


_ROUTE: Document = {
    "timeout": f"{REQUEST_TIMEOUT_S}s",
    "retry_policy": {
        # A request is sent again where its replica died or hangs. Scoring has no side effect, so twice is as good as once.
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": 3,
        # Far above what the slowest healthy answer takes: a request that a hung replica holds goes to another one.
        "per_try_timeout": "2s",
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{_TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        # A dead replica has the fewest requests, so the balancer likes it best: choose until another one comes up.
        "host_selection_retry_max_attempts": "16",
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
    },
}


def _versioned(resources: list[Document]) -> Document:
    text = json.dumps(resources, sort_keys=True, separators=(",", ":"))
    return {"version_info": hashlib.sha256(text.encode()).hexdigest()[:16], "resources": resources}
