"""The edge's clusters and their endpoints, as values.

Endpoints are files of their own: replacing a replica changes one of them and leaves cluster, connections and counters of the
others alone. Each slot is two clusters over one such file: one answers, its shadow takes copies of requests.
"""

from __future__ import annotations

from collections.abc import Sequence

from hotcold.domain.edge import Document, EdgeModel, Endpoint, cluster_name, shadow_name, versioned
from hotcold.domain.serving import Slot

# A copy that takes longer is given up. Nobody waits for it, but it holds a connection and a body.
SHADOW_TIMEOUT_S = 1.0
# Copies under way at once, over all of Envoy's threads. One more is dropped and counted: a shadow that hangs costs no more.
SHADOW_REQUESTS = 32
_TYPE = "type.googleapis.com/envoy"


def endpoint_file(model: str, slot: Slot) -> str:
    """Name of the file with a slot's endpoints."""
    return f"eds-{cluster_name(model, slot)}.json"


def endpoint_document(model: str, slot: Slot, endpoints: Sequence[Endpoint]) -> Document:
    """Endpoints of one slot; Envoy takes exactly one resource in such a file."""
    addresses = [
        {"endpoint": {"address": {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}}}
        for endpoint in sorted(endpoints)
    ]
    return versioned(
        [
            {
                "@type": f"{_TYPE}.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": cluster_name(model, slot),
                "endpoints": [{"lb_endpoints": addresses}],
            }
        ]
    )


def cluster_document(models: Sequence[EdgeModel], folder: str) -> Document:
    """Four clusters for each model: its slots, and their shadows.

    Args:
        models: all models at the edge.
        folder: where the endpoint files are, as Envoy sees it.
    """
    slots = [(model.model, slot) for model in models for slot in Slot]
    return versioned([make(*slot, folder) for slot in slots for make in (_cluster, _shadow)])


def _cluster(model: str, slot: Slot, folder: str) -> Document:
    return {
        **_common(cluster_name(model, slot), model, slot, folder),
        "circuit_breakers": {"thresholds": [_BREAKER]},
        "outlier_detection": _OUTLIERS,
        "health_checks": [_HEALTH_CHECK],
        # The agent takes an address away on purpose; requests in flight still end on it.
        "ignore_health_on_host_removal": True,
        "track_cluster_stats": {"timeout_budgets": True, "per_endpoint_stats": True},
        "typed_extension_protocol_options": _protocol({"idle_timeout": "60s"}),
    }


def _shadow(model: str, slot: Slot, folder: str) -> Document:
    """The same replicas for copies, apart from the slot's own cluster: connections, limits and counters are not shared.

    It makes no checks of its own, since those of the slot's cluster tell the agent which replicas there are. It ejects none
    either: a replica that fails is what a comparison has to see.
    """
    return {
        **_common(shadow_name(model, slot), model, slot, folder),
        "circuit_breakers": {"thresholds": [_SHADOW_BREAKER]},
        # The route's timeout is the champion's, and is far too long for a copy.
        "typed_extension_protocol_options": _protocol({"idle_timeout": "60s", "max_stream_duration": f"{SHADOW_TIMEOUT_S:g}s"}),
    }


def _common(name: str, model: str, slot: Slot, folder: str) -> Document:
    return {
        "@type": f"{_TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {
            # The name in the endpoint file, which both clusters of a slot read.
            "service_name": cluster_name(model, slot),
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": f"{folder}/{endpoint_file(model, slot)}",
                    "watched_directory": {"path": folder},
                },
            },
        },
        "connect_timeout": "0.25s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            # Panic would send requests to replicas that are known to be down.
            "healthy_panic_threshold": {"value": 0},
            # By default workers hear of health changes up to a second late: too late for a replica that just became ready.
            "update_merge_window": "0s",
        },
    }


def _protocol(common: Document) -> Document:
    """HTTP/1.1. Replicas keep an idle connection for longer than Envoy, so that no request meets one that closes."""
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": common,
            "explicit_http_config": {"http_protocol_options": {}},
        }
    }


_BREAKER: Document = {
    "priority": "DEFAULT",
    "max_connections": 512,
    "max_pending_requests": 256,
    "max_requests": 512,
    "track_remaining": True,
    "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 16},
}
_SHADOW_BREAKER: Document = {
    "priority": "DEFAULT",
    "max_connections": SHADOW_REQUESTS,
    "max_pending_requests": SHADOW_REQUESTS // 2,
    "max_requests": SHADOW_REQUESTS,
    "max_retries": 0,
    "track_remaining": True,
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
