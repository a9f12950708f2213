"""A bounded stream of live requests at a steady rate, for the demo, the benchmarks and the tests."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from typing import Self
from urllib.parse import urlsplit

import orjson

from hotcold.domain.errors import StackError
from hotcold.domain.traffic import Exchange

# Path, headers and body of the nth request.
MakeRequest = Callable[[int], tuple[str, Mapping[str, str], bytes]]

MAX_REQUESTS = 1_000_000
_TIMEOUT_S = 5.0


class LoadClient:
    """Sends requests over kept connections, open loop: the nth is due n / rate seconds after the start.

    Each connection sends every `connections`-th request, so a slow answer delays the requests behind it on that connection
    only. Nothing is sent again: a request that fails is a failure. Loopback only.

    Args:
        url: address of the edge.
        make_request: gives the nth request; called from several threads.
        rate_per_s: requests per second over all connections.
        connections: number of connections, one thread each.
        limit: stop after so many requests.

    Raises:
        StackError: the address is not on this machine.
    """

    def __init__(
        self, url: str, make_request: MakeRequest, rate_per_s: float, connections: int = 4, limit: int = MAX_REQUESTS
    ) -> None:
        address = urlsplit(url)
        if address.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise StackError(f"load goes to this machine only, not to {address.hostname}; use the address of a local edge")
        self._host, self._port = address.hostname, address.port or 80
        self._make_request = make_request
        self._rate_per_s = rate_per_s
        self._limit = min(limit, MAX_REQUESTS)
        self._stopped = threading.Event()
        self._exchanges: list[list[Exchange]] = [[] for _ in range(connections)]
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(connections)]
        self._started_s = 0.0

    def start(self) -> None:
        """Begin to send."""
        self._started_s = time.perf_counter()
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Exchange]:
        """Stop, wait for the answers under way, and give all exchanges in the order of sending."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        return self.results()

    def results(self) -> list[Exchange]:
        """All exchanges so far, in the order of sending."""
        return sorted((exchange for own in self._exchanges for exchange in list(own)), key=lambda exchange: exchange.sent_at)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, number: int) -> None:
        connection = self._connect()
        for index in range(number, self._limit, len(self._threads)):
            due_s = self._started_s + index / self._rate_per_s - time.perf_counter()
            if self._stopped.wait(max(due_s, 0.0)):
                break
            exchange = self._exchange(connection, index)
            self._exchanges[number].append(exchange)
            if exchange.error:
                connection.close()
                connection = self._connect()
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)

    def _exchange(self, connection: http.client.HTTPConnection, index: int) -> Exchange:
        path, headers, body = self._make_request(index)
        sent_at = time.time()
        try:
            connection.request("POST", path, body, dict(headers))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return Exchange(sent_at, time.time(), 0, error=type(error).__name__, index=index)
        return Exchange(
            sent_at,
            time.time(),
            answer.status,
            answer.headers.get("x-model-version", ""),
            answer.headers.get("x-variant", ""),
            score=_first_score(content) if answer.status == 200 else None,
            index=index,
        )


def _first_score(content: bytes) -> float | None:
    try:
        return float(orjson.loads(content)["scores"][0])
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, ValueError):
        return None
