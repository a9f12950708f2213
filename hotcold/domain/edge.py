"""The edge as values: what Envoy is to do, and the JSON that says so.

Clusters, endpoints and routes are files that Envoy watches. Their `version_info` is a hash of their content, so the same state
always has the same version, and Envoy's own report tells whether it took it. The routes are here, the rest is in
`edge_clusters` and, for what does not change, in `edge_listener`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hotcold.domain.errors import EdgeError
from hotcold.domain.headers import ENTITY_HEADER, SHADOW_HEADER, SHADOW_VALUE, VARIANT_HEADER
from hotcold.domain.serving import Slot

ROUTES = "hotcold"
# Names of routes: who asked, so that counts of consumers' requests are not mixed with those of tests and probes.
SCORE_ROUTE, READ_ROUTE, TESTER_ROUTE = "score", "read", "tester"
REQUEST_TIMEOUT_S = 5
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
# Envoy draws a number below this for each request; so a share has four decimals of a percent.
_DRAWS = 1_000_000
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
        mirror_pct: share of the split's scoring requests that are copied to the slot which is not the champion's.
    """

    model: str
    green_pct: int | None
    blue: tuple[Endpoint, ...] = ()
    green: tuple[Endpoint, ...] = ()
    champion: Slot | None = None
    mirror_pct: float = 0.0

    def __post_init__(self) -> None:
        if reason := refuse_name(self.model):
            raise EdgeError(reason)
        if self.green_pct is not None and not 0 <= self.green_pct <= 100:
            raise EdgeError(f"the share of green is {self.green_pct} %; allowed is 0 to 100")
        if reason := refuse_mirror(self.mirror_pct):
            raise EdgeError(reason)
        if self.mirror_pct and (self.champion is None or self.green_pct is None):
            raise EdgeError(f"{self.model} has no champion whose requests could be copied; release one first")

    @property
    def mirror(self) -> Slot | None:
        """Slot that gets the copies; None if there are none."""
        return self.champion.other if self.champion and self.mirror_pct else None

    def endpoints(self, slot: Slot) -> tuple[Endpoint, ...]:
        """Replicas of a slot that may be asked."""
        return self.green if slot is Slot.GREEN else self.blue


def refuse_name(model: str) -> str:
    """Why a model cannot be served under its name; empty if it can. Names become parts of paths, patterns and file names."""
    if MODEL_NAME.fullmatch(model):
        return ""
    return f"the model name is {model[:80]!r}; allowed are a-z, 0-9 and -, 1 to 61 characters"


def refuse_mirror(share_pct: float) -> str:
    """Why Envoy cannot copy this share of requests, in percent; empty if it can."""
    if 0 <= share_pct <= 100 and round(share_pct, 4) == share_pct:
        return ""
    return f"the share of copied requests is {share_pct} %; allowed is 0 to 100 with at most four decimals"


def cluster_name(model: str, slot: Slot) -> str:
    """Name of a slot's cluster."""
    return f"{model}-{slot.value}"


def shadow_name(model: str, slot: Slot) -> str:
    """Name of the cluster with the same replicas that takes copies of requests."""
    return f"{cluster_name(model, slot)}-shadow"


def route_document(models: Sequence[EdgeModel]) -> Document:
    """All routes: what each model answers, what the edge answers itself, and a 404 for the rest."""
    routes = [*_SERVER_ROUTES, *(route for model in models for route in _model_routes(model)), _NOT_FOUND]
    return versioned(
        [
            {
                "@type": f"{_TYPE}.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                "validate_clusters": True,
                "virtual_hosts": [
                    {
                        "name": "models",
                        "domains": ["*"],
                        "include_request_attempt_count": False,
                        "request_headers_to_remove": [SHADOW_HEADER],
                        "routes": routes,
                    }
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
    name = model.model
    return [
        *_paths(model, f"/models/{name}/predict", "POST", is_copied=True),
        *_paths(model, f"/models/{name}", "GET|HEAD"),
        *_paths(model, f"/models/{name}/scores/[^/]+", "GET|HEAD"),
        *_paths(model, f"/v2/models/{name}/infer", "POST", is_copied=True),
        # Another version than the one that is asked for would refuse.
        *_paths(model, f"/v2/models/{name}/versions/[^/]+/infer", "POST"),
        *_paths(model, f"/v2/models/{name}(/versions/[^/]+)?(/ready)?", "GET|HEAD"),
    ]


def _paths(model: EdgeModel, regex: str, methods: str, *, is_copied: bool = False) -> list[Document]:
    """One path of a model: testers' slots by header, the split, and a 405 for other methods."""
    match: Document = {"safe_regex": {"regex": regex}}
    allowed = match | {"headers": [_method(methods)]}
    by_header = [_tester_route(model, allowed, value, slot) for value, slot in _variants(model)]
    if model.green_pct is None:
        # Known, but nothing is released: say so rather than that there is no such model.
        split = {
            "name": "nothing-released",
            "match": allowed,
            **_refused("nothing of this model is released yet"),
            "response_headers_to_add": [_header("retry-after", "5")],
        }
    else:
        split = _split_route(model, allowed, SCORE_ROUTE if methods == "POST" else READ_ROUTE)
        if is_copied and model.mirror:
            split["route"]["request_mirror_policies"] = [_mirror(model, model.mirror)]
    refused = {
        "match": match,
        **_direct(405),
        "response_headers_to_add": [_header("allow", methods.replace("|", ", "))],
    }
    return [*by_header, split, refused]


def _variants(model: EdgeModel) -> list[tuple[str, Slot]]:
    """Header values that lead to a slot, whatever the split is."""
    roles = [("champion", model.champion), ("candidate", model.champion.other)] if model.champion else []
    return [(slot.value, slot) for slot in Slot] + roles


def _tester_route(model: EdgeModel, match: Document, value: str, slot: Slot) -> Document:
    header = {"name": VARIANT_HEADER, "string_match": {"exact": value}}
    return {
        "name": TESTER_ROUTE,
        "match": {**match, "headers": [*match["headers"], header]},
        "route": {"cluster": cluster_name(model.model, slot), **_ROUTE},
    }


def _split_route(model: EdgeModel, match: Document, name: str) -> Document:
    green_pct = model.green_pct or 0
    weights = {Slot.BLUE: 100 - green_pct, Slot.GREEN: green_pct}
    return {
        "name": name,
        "match": match,
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
        },
    }


def _mirror(model: EdgeModel, slot: Slot) -> Document:
    """Copies to a slot's shadow. Envoy makes them of requests, not of tries, so a retry is not copied again."""
    return {
        "cluster": shadow_name(model.model, slot),
        "runtime_fraction": {"default_value": {"numerator": round(model.mirror_pct * _DRAWS / 100), "denominator": "MILLION"}},
        "request_headers_mutations": [{"append": _header(SHADOW_HEADER, SHADOW_VALUE)}],
        "disable_shadow_host_suffix_append": True,
    }


def mirrored_pct(policy: Document) -> float:
    """Share of requests that a mirror policy of these routes copies, in percent."""
    return float(policy["runtime_fraction"]["default_value"]["numerator"]) * 100 / _DRAWS


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


def versioned(resources: list[Document]) -> Document:
    """A watched file's content; its version is a hash of the resources."""
    text = json.dumps(resources, sort_keys=True, separators=(",", ":"))
    return {"version_info": hashlib.sha256(text.encode()).hexdigest()[:16], "resources": resources}
