"""Envoy: its files, its admin page, and how it is started."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hotcold.adapters.stack_record import StackRecord
from hotcold.domain.edge import EdgeModel, Endpoint, cluster_name, mirrored_pct, route_document, shadow_name
from hotcold.domain.edge_clusters import cluster_document, endpoint_document, endpoint_file
from hotcold.domain.edge_listener import Listener, bootstrap_document
from hotcold.domain.errors import EdgeError
from hotcold.domain.serving import Slot
from hotcold.settings import Settings

_ADMIN_TIMEOUT_S = 1.0


def envoy_command(settings: Settings, record: StackRecord) -> tuple[str, ...]:
    """Program and arguments of Envoy; `prepare_edge` writes the files that it needs."""
    # Another Envoy on this host must not share its memory with this one.
    base_id = str(record.admin_port)
    return (
        str(Path(sys.executable).parent / "envoy"),
        *("--config-path", str(settings.edge_dir / "bootstrap.json")),
        *("--base-id", base_id, "--disable-hot-restart"),
        *("--concurrency", str(min(os.cpu_count() or 1, 4)), "--log-level", "warning"),
        *("--drain-time-s", "5"),
    )


def prepare_edge(settings: Settings, record: StackRecord) -> None:
    """Write the bootstrap file, and empty routes where none are there yet.

    Raises:
        EdgeError: the folder cannot be written.
    """
    files = EdgeFiles(settings.edge_dir)
    listener = Listener(
        host=settings.edge_host,
        port=record.edge_port,
        admin_port=record.admin_port,
        folder=str(settings.edge_dir),
        error_log=str(settings.log_dir / "edge-errors.jsonl"),
        node=settings.node,
    )
    files.write("bootstrap.json", bootstrap_document(listener))
    if not (settings.edge_dir / "cds.json").exists() or not (settings.edge_dir / "rds.json").exists():
        files.write_clusters(())
        files.write_routes(())


class EdgeFiles:
    """The files that Envoy watches. Each is replaced as a whole: written beside, synced, renamed.

    Args:
        folder: the watched folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write_endpoints(self, model: str, slot: Slot, endpoints: Iterable[Endpoint]) -> None:
        """Replicas of one slot."""
        self.write(endpoint_file(model, slot), endpoint_document(model, slot, tuple(endpoints)))

    def write_clusters(self, models: Iterable[EdgeModel], again: bool = False) -> str:
        """Clusters of all models; returns the version that Envoy will report."""
        return self.write("cds.json", cluster_document(tuple(models), str(self._folder)), again)

    def write_routes(self, models: Iterable[EdgeModel]) -> str:
        """Routes of all models; returns the version that Envoy will report."""
        return self.write("rds.json", route_document(tuple(models)))

    def write(self, name: str, document: dict[str, Any], again: bool = False) -> str:
        """Replace a file, unless it has this content already.

        Args:
            name: file name.
            document: its content.
            again: replace it even if nothing changed, so that Envoy reads it once more.

        Returns:
            The document's version, empty if it has none.

        Raises:
            EdgeError: the file cannot be written; the one before is untouched.
        """
        path = self._folder / name
        content = json.dumps(document, indent=1).encode()
        version = str(document.get("version_info", ""))
        try:
            if not again and path.exists() and path.read_bytes() == content:
                return version
            self._folder.mkdir(parents=True, exist_ok=True)
            _replace(path, content)
        except OSError as error:
            raise EdgeError(
                f"cannot write {path}: {error.strerror}; the edge goes on with the file before. "
                "Free the disk or make it writable"
            ) from error
        return version

    def read(self, name: str) -> dict[str, Any]:
        """A file's content; empty if there is none or it cannot be read."""
        try:
            document = json.loads((self._folder / name).read_bytes())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def read_green_pct(self, model: str) -> int | None:
        """Share of green in the routes on disk, in percent; None if the model is not routed there."""
        for route in self._read_routes():
            for cluster in route.get("weighted_clusters", {}).get("clusters", []):
                if cluster["name"] == cluster_name(model, Slot.GREEN):
                    return int(cluster["weight"])
        return None

    def read_mirror_pct(self, model: str, slot: Slot) -> float:
        """Share of requests that the routes on disk copy to a slot, in percent; 0 if they copy none."""
        for route in self._read_routes():
            for policy in route.get("request_mirror_policies", []):
                if policy["cluster"] == shadow_name(model, slot):
                    return mirrored_pct(policy)
        return 0.0

    def _read_routes(self) -> list[dict[str, Any]]:
        """What the routes on disk do with the requests that they send on."""
        resources = self.read("rds.json").get("resources", [])
        routes = [route for resource in resources for route in resource["virtual_hosts"][0]["routes"]]
        return [route["route"] for route in routes if "route" in route]

    def read_endpoints(self, model: str, slot: Slot) -> frozenset[Endpoint]:
        """Replicas of a slot in the file on disk."""
        resources = self.read(endpoint_file(model, slot)).get("resources", [])
        groups = [group for resource in resources for group in resource["endpoints"]]
        addresses = [entry["endpoint"]["address"]["socket_address"] for group in groups for entry in group["lb_endpoints"]]
        return frozenset(Endpoint(address["address"], address["port_value"]) for address in addresses)


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class EdgeView:
    """What Envoy says of itself.

    Args:
        route_version: version of the routes in force, empty if none.
        clusters: names of the clusters in force.
        hosts: for each cluster its replicas.
        healthy: for each cluster the replicas that get requests.
    """

    route_version: str
    clusters: frozenset[str]
    hosts: dict[str, frozenset[Endpoint]]
    healthy: dict[str, frozenset[Endpoint]]


class EnvoyAdmin:
    """Reads Envoy's admin page.

    Args:
        port: its port on loopback.
    """

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            timeout=_ADMIN_TIMEOUT_S,
            trust_env=False,
            verify=False,  # noqa: S501
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def read_view(self) -> EdgeView | None:
        """What Envoy says of itself; None while it does not answer."""
        try:
            version = self._read_route_version()
            statuses = self._ask("/clusters", {"format": "json"}).get("cluster_statuses", [])
        except (httpx.HTTPError, ValueError):
            return None
        hosts = {status["name"]: frozenset(map(_endpoint, status.get("host_statuses", []))) for status in statuses}
        healthy = {
            status["name"]: frozenset(_endpoint(host) for host in status.get("host_statuses", []) if _is_healthy(host))
            for status in statuses
        }
        return EdgeView(version, frozenset(hosts), hosts, healthy)

    def read_route_version(self) -> str:
        """Version of the routes in force; empty if there are none or Envoy does not answer."""
        try:
            return self._read_route_version()
        except (httpx.HTTPError, ValueError):
            return ""

    def _read_route_version(self) -> str:
        # Why routes from a file were refused is in Envoy's log only, not here.
        dump = self._ask("/config_dump", {"resource": "dynamic_route_configs", "mask": "version_info"})
        return next((str(config.get("version_info", "")) for config in dump.get("configs", [])), "")

    def _ask(self, path: str, parameters: dict[str, str]) -> dict[str, Any]:
        answer = self._client.get(path, params=parameters)
        answer.raise_for_status()
        return dict(answer.json())


def _endpoint(host: dict[str, Any]) -> Endpoint:
    address = host["address"]["socket_address"]
    return Endpoint(address["address"], address["port_value"])


def _is_healthy(host: dict[str, Any]) -> bool:
    health = host.get("health_status", {})
    bad = ("failed_active_health_check", "failed_outlier_check", "failed_active_degraded_check", "pending_active_hc")
    return health.get("eds_health_status", "HEALTHY") == "HEALTHY" and not any(health.get(name) for name in bad)
