"""Loopback ports for the stack: the configured one, else the usual one, else any that is free."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from hotcold.domain.errors import StackError
from hotcold.settings import Settings

_LOOPBACK = "127.0.0.1"
_USUAL = {"edge_port": 8080, "edge_admin_port": 9901, "prefect_port": 4200, "mlflow_port": 5000, "webhook_port": 5050}


@dataclass(frozen=True)
class Ports:
    """One port for each server of the stack; all differ."""

    edge: int
    admin: int
    prefect: int
    mlflow: int
    webhook: int


def choose_ports(settings: Settings) -> Ports:
    """Choose ports that are free now.

    Somebody else may take one before our server does; that server then says so in its log and `hotcold up` fails with it.

    Raises:
        StackError: a configured port is taken, may not be used, or is configured twice.
    """
    chosen: dict[str, int] = {}
    # Configured ports first, so that none of them is given away as somebody's usual one.
    for setting in sorted(_USUAL, key=lambda name: getattr(settings, name) == 0):
        host = settings.edge_host if setting == "edge_port" else _LOOPBACK
        chosen[setting] = _choose(setting, getattr(settings, setting), host, chosen)
    return Ports(
        chosen["edge_port"], chosen["edge_admin_port"], chosen["prefect_port"], chosen["mlflow_port"], chosen["webhook_port"]
    )


def _choose(setting: str, configured: int, host: str, chosen: dict[str, int]) -> int:
    if configured:
        _require_usable(setting, configured, host, chosen)
        return configured
    usual = _USUAL[setting]
    if usual not in chosen.values() and _refusal(usual, host) is None:
        return usual
    while (port := _any_free(host)) in chosen.values():
        continue
    return port


def _require_usable(setting: str, port: int, host: str, chosen: dict[str, int]) -> None:
    variable = f"HOTCOLD_{setting.upper()}"
    other = next((name for name, taken in chosen.items() if taken == port), None)
    if other:
        raise StackError(
            f"{variable} and HOTCOLD_{other.upper()} are both {port}; give each its own port, or 0 for any free one"
        )
    refused = _refusal(port, host)
    if refused is None:
        return
    if refused.errno == errno.EADDRINUSE:
        raise StackError(
            f"port {port} ({variable}) is taken by another process; end that process (`ss -ltnp 'sport = :{port}'` names it), "
            f"or set {variable} to another port, or to 0 for any free one"
        )
    raise StackError(f"cannot listen on {host} port {port} ({variable}): {refused.strerror}; set {variable} to another port")


def _refusal(port: int, host: str) -> OSError | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A port whose last connections linger in TIME_WAIT is free: the servers bind with this option too.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # With the option, binding succeeds beside a socket that is bound and does not listen; listening does not.
            probe.listen(1)
        except OSError as error:
            return error
    return None


def _any_free(host: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise StackError(
                f"cannot listen on {host}: {error.strerror}; set HOTCOLD_EDGE_HOST to an address of this host"
            ) from error
        port: int = probe.getsockname()[1]
    return port
