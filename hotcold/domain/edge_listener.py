"""The part of Envoy's configuration that does not change while it runs: listener, limits, answers of its own, logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hotcold.domain.edge import ROUTES
from hotcold.domain.latency import LATENCY_EDGES_US, bound_below

MAX_BODY_BYTES = 1_048_576
# Names of Envoy's statistics about answers; `edge_stats` reads them.
STATS_PREFIX, ANSWERS, LATENCY_US = "hotcold", "answers", "latency_us"
# Envoy counts nothing beyond its last bound, which is therefore one that nothing reaches.
LATENCY_BOUNDS_US = (*(bound_below(edge) for edge in LATENCY_EDGES_US), 3_600_000_000)
_TYPE = "type.googleapis.com/envoy"
_EXTENSION = f"{_TYPE}.extensions"

Document = dict[str, Any]


@dataclass(frozen=True)
class Listener:
    """Where and with which limits the edge listens.

    Args:
        host: address for consumers.
        port: port for consumers.
        admin_port: port of the admin page, loopback only.
        folder: folder of the watched files.
        error_log: file for answers of 500 and above and broken requests.
        node: name of this serving node.
        max_connections: open connections of consumers.
        max_heap_bytes: memory from which Envoy stops taking requests.
    """

    host: str
    port: int
    admin_port: int
    folder: str
    error_log: str
    node: str
    max_connections: int = 5000
    max_heap_bytes: int = 1 << 30


def bootstrap_document(listener: Listener) -> Document:
    """The file that Envoy is started with."""
    return {
        "admin": {"address": _address("127.0.0.1", listener.admin_port)},
        "node": {"id": listener.node, "cluster": "hotcold"},
        "overload_manager": _overload(listener),
        "stats_config": {"histogram_bucket_settings": [_LATENCY_BUCKETS]},
        # Histograms are brought together from Envoy's threads this often; what is read is at most so old.
        "stats_flush_interval": "1s",
        "static_resources": {
            "listeners": [
                {
                    "name": "edge",
                    "address": _address(listener.host, listener.port),
                    "per_connection_buffer_limit_bytes": MAX_BODY_BYTES,
                    "filter_chains": [{"filters": [_typed("network.http_connection_manager", _manager(listener))]}],
                }
            ]
        },
        "dynamic_resources": {"cds_config": _watched(listener, "cds.json")},
    }


def _manager(listener: Listener) -> Document:
    return {
        "@type": f"{_EXTENSION}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "merge_slashes": True,
        # An entity may have slashes in its name. Routes match the path as it was sent, where an escaped slash is none.
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "request_headers_timeout": "2s",
        "request_timeout": "10s",
        "stream_idle_timeout": "15s",
        "max_request_headers_kb": 32,
        "common_http_protocol_options": {
            "idle_timeout": "300s",
            "max_headers_count": 64,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "rds": {"route_config_name": ROUTES, "config_source": _watched(listener, "rds.json")},
        "local_reply_config": _LOCAL_REPLIES,
        "access_log": [_error_log(listener), _STATS_LOG],
        "http_filters": [_BODY_LIMIT, {"name": "envoy.filters.http.router", "typed_config": _ROUTER}],
    }


def _address(host: str, port: int) -> Document:
    return {"socket_address": {"address": host, "port_value": port}}


def _watched(listener: Listener, name: str) -> Document:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": f"{listener.folder}/{name}", "watched_directory": {"path": listener.folder}},
    }


def _typed(name: str, config: Document) -> Document:
    return {"name": f"envoy.filters.{name}", "typed_config": config}


_ROUTER: Document = {"@type": f"{_EXTENSION}.filters.http.router.v3.Router", "suppress_envoy_headers": True}
_BODY_LIMIT = _typed(
    "http.body_size_limit",
    {
        "@type": f"{_EXTENSION}.filters.http.body_size_limit.v3.BodySizeLimit",
        "max_request_bytes": MAX_BODY_BYTES,
    },
)

_TITLES = {
    400: ("Bad request", "the request is not valid HTTP for this edge: %RESPONSE_CODE_DETAILS%"),
    404: (
        "Not found",
        "nothing is served at %REQ(:PATH)%; models answer at /models/{model}/predict and /v2/models/{model}/infer",
    ),
    405: ("Method not allowed", "%REQ(:PATH)% does not take %REQ(:METHOD)%; the header allow says what it takes"),
    408: ("Request timeout", "the request did not arrive in time; send it at once"),
    413: ("Body too large", f"the body is larger than {MAX_BODY_BYTES} bytes; send fewer rows in one request"),
    426: ("Upgrade required", "this edge speaks HTTP/1.1 and HTTP/2"),
    431: ("Headers too large", "the headers are larger than 32 KiB or more than 64"),
    503: ("Service unavailable", "no answer can be given now: %LOCAL_REPLY_BODY% (%RESPONSE_FLAGS%); try again"),
    504: ("Timeout", "no replica answered in time (%RESPONSE_FLAGS%); try again"),
}


# Retrying at once would keep an overload up. A route may say something more exact.
_RETRY: dict[int, list[Document]] = {
    503: [{"header": {"key": "retry-after", "value": "1"}, "append_action": "ADD_IF_ABSENT"}],
}


def _problem(title: str, detail: str) -> Document:
    return {
        "json_format": {
            "type": "about:blank",
            "title": title,
            "status": "%RESPONSE_CODE%",
            "detail": detail,
            "instance": "%REQ(:PATH)%",
            "request_id": "%REQ(X-REQUEST-ID)%",
        },
        "content_type": "application/problem+json",
    }


def _status_is(status: int) -> Document:
    return _status(status, "EQ")


def _status(status: int, operator: str) -> Document:
    return {
        "status_code_filter": {
            "comparison": {"op": operator, "value": {"default_value": status, "runtime_key": "hotcold.none"}}
        }
    }


_LOCAL_REPLIES: Document = {
    # The edge's own good answers keep their body; only those that refuse become problem documents.
    "mappers": [
        {
            "filter": _status(299, "LE"),
            "body_format_override": {
                "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
                "content_type": "application/json",
            },
        },
        *(
            {
                "filter": _status_is(status),
                "headers_to_add": _RETRY.get(status, []),
                "body_format_override": _problem(title, detail),
            }
            for status, (title, detail) in _TITLES.items()
        ),
    ],
    "body_format": _problem("Refused at the edge", "%RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%"),
}


def _error_log(listener: Listener) -> Document:
    """Answers of 500 and above, and requests that broke off; the others are counted, not written."""
    broken: Document = {"response_flag_filter": {}}
    fields = {
        "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "replica": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "total_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"or_filter": {"filters": [_status(500, "GE"), broken]}},
        "typed_config": {
            "@type": f"{_EXTENSION}.access_loggers.file.v3.FileAccessLog",
            "path": listener.error_log,
            "log_format": {"json_format": fields},
        },
    }


# Answers by cluster, code and who asked, and how long they took: Envoy's own histograms are whole milliseconds, and counts of
# tests and probes would be mixed with those of consumers. What never reached a replica counts for the cluster that was meant.
_TAGS: list[Document] = [
    {"name": "cluster", "value_format": "%UPSTREAM_CLUSTER%"},
    {"name": "code", "value_format": "%RESPONSE_CODE%"},
    {"name": "route", "value_format": "%ROUTE_NAME%"},
]
_STATS_LOG: Document = {
    "name": "envoy.access_loggers.stats",
    "typed_config": {
        "@type": f"{_EXTENSION}.access_loggers.stats.v3.Config",
        "stats_scope": {"prefix": STATS_PREFIX},
        "counters": [{"stat": {"name": ANSWERS, "tags": _TAGS}, "value_fixed": 1}],
        "histograms": [
            {
                "stat": {"name": LATENCY_US, "tags": _TAGS},
                "unit": "Microseconds",
                "value_format": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
            }
        ],
    },
}
_LATENCY_BUCKETS: Document = {
    "match": {"prefix": f"{STATS_PREFIX}.{LATENCY_US}."},
    "buckets": [*LATENCY_BOUNDS_US],
}


def _overload(listener: Listener) -> Document:
    heap = "envoy.resource_monitors.fixed_heap"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": f"{_EXTENSION}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": listener.max_connections,
                },
            },
            {
                "name": heap,
                "typed_config": {
                    "@type": f"{_EXTENSION}.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": listener.max_heap_bytes,
                },
            },
        ],
        "actions": [
            {"name": "envoy.overload_actions.shrink_heap", "triggers": [{"name": heap, "threshold": {"value": 0.9}}]},
            {
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": [{"name": heap, "threshold": {"value": 0.95}}],
            },
        ],
    }
