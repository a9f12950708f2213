"""Which ports a stack gets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hotcold.adapters import ports as ports_module
from hotcold.adapters.ports import choose_ports
from hotcold.domain.errors import StackError
from hotcold.settings import Settings
from tests.fixtures.stack import free_ports


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_all_ports_differ_and_are_free() -> None:
    ports = choose_ports(settings())
    chosen = {ports.edge, ports.admin, ports.prefect, ports.mlflow, ports.webhook}
    assert 5 == len(chosen)
    for port in chosen:
        socket.create_server(("127.0.0.1", port)).close()


def test_configured_ports_are_taken_as_they_are() -> None:
    edge, admin, prefect, mlflow = free_ports(4)
    ports = choose_ports(settings(edge_port=edge, edge_admin_port=admin, prefect_port=prefect, mlflow_port=mlflow))
    assert (edge, admin, prefect, mlflow) == (ports.edge, ports.admin, ports.prefect, ports.mlflow)


def test_a_configured_port_is_never_given_away_as_a_usual_one() -> None:
    """MLflow is configured to the edge's usual port: the edge moves, if the port is free at all."""
    try:
        ports = choose_ports(settings(mlflow_port=8080))
    except StackError:
        pytest.skip("somebody on this machine listens on 8080")
    assert (8080, True) == (ports.mlflow, ports.edge != 8080)


def test_a_usual_port_that_is_taken_is_left_to_its_owner(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setitem(ports_module._USUAL, "edge_port", taken)
    assert taken != choose_ports(settings()).edge


def test_a_taken_port_is_refused_with_its_number_setting_and_way_out(taken: int) -> None:
    with pytest.raises(
        StackError, match=rf"port {taken} \(HOTCOLD_PREFECT_PORT\) is taken.*set HOTCOLD_PREFECT_PORT to another"
    ):
        choose_ports(settings(prefect_port=taken))


def test_two_servers_cannot_be_given_one_port() -> None:
    port = free_ports(1)[0]
    with pytest.raises(StackError, match=f"are both {port}; give each its own port"):
        choose_ports(settings(prefect_port=port, mlflow_port=port))


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(StackError, match=r"cannot listen on 192\.0\.2\.1"):
        choose_ports(settings(edge_host="192.0.2.1"))


def test_a_port_whose_last_connections_linger_is_free() -> None:
    """After `down`, `up` on the same ports must not wait a minute for TIME_WAIT."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()
    assert port == choose_ports(settings(edge_port=port)).edge
