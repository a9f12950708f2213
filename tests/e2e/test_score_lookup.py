"""Published batch scores from a real replica process: by entity, and always of one whole table."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from hotcold.adapters.packages import package_dir
from hotcold.adapters.score_store import ScoreStore, StorePointer, open_score_store
from hotcold.domain.package import Manifest
from hotcold.domain.plan import Plan
from tests.fixtures.data_plane import DataPlane
from tests.fixtures.fragments import MODEL, fragments_of, store_header, write_table
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.replicas import Replica, running_replica

pytestmark = pytest.mark.e2e
# Neither of the scores nor of the versions below is that of the package that the replica serves, which is 1.0.0.
TEXTS = {"customer 7": 0.25, "a/b": 0.5, "é": 0.75, "100%": 0.125, "?x=1": 0.0625, "a" * 512: 1.0, "\ufffd": 2.0}


@dataclass(frozen=True)
class Served:
    """A replica and the store that it asks."""

    replica: Replica
    store: ScoreStore
    client: httpx.Client

    def get(self, entity: str, method: str = "GET") -> httpx.Response:
        """Ask for the entity that is written so in the path."""
        return self.client.request(method, f"/models/{MODEL}/scores/{entity}")


@pytest.fixture
def src(small_package: Manifest, bento_home: Path) -> Path:
    return package_dir(small_package.ref, bento_home)


@pytest.fixture
def served(src: Path, store_url: str) -> Iterator[Served]:
    with (
        running_replica(src, slot="green", HOTCOLD_SCORE_STORE=store_url) as replica,
        httpx.Client(base_url=replica.url, trust_env=False, timeout=10) as client,
    ):
        yield Served(replica, open_score_store(store_url), client)


def is_problem(answer: httpx.Response, status: int, detail: str) -> None:
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert status == answer.json()["status"]
    assert detail in answer.json()["detail"]


def quoted(entity: str) -> str:
    return "".join(f"%{byte:02X}" for byte in entity.encode())


def publish_texts(store: ScoreStore) -> None:
    fragments = fragments_of([([*TEXTS], [*TEXTS.values()])])
    store.write(store_header("t1", len(TEXTS), "text", version=8), fragments.merged(len(TEXTS)))
    store.point(MODEL, StorePointer("t1", 1))


def test_the_score_of_an_entity_and_what_it_is_from(served: Served) -> None:
    publish_texts(served.store)
    answer = served.get("customer%207")
    assert 200 == answer.status_code
    assert {
        "model": MODEL,
        "entity": "customer 7",
        "score": 0.25,
        "model_version": "1.0.8",
        "registry_version": 8,
        "scored_at": "2026-07-01T02:03:04Z",
        "table": "t1",
    } == answer.json()
    expected = {"content-type": "application/json", "x-score-source": "batch", "x-variant": "green", "x-model-version": "1.0.8"}
    assert expected == {name: answer.headers[name] for name in expected}
    # Once each: a client that takes the first and one that takes the last see the same.
    for name in ("x-model-version", "x-package-digest", "content-type", "x-request-id", "server-timing"):
        assert 1 == len(answer.headers.get_list(name)), name
    head = served.get("customer%207", "HEAD")
    assert (200, b"", "batch") == (head.status_code, head.content, head.headers["x-score-source"])
    for text, score in TEXTS.items():
        assert score == served.get(quoted(text)).json()["score"], text


def test_what_cannot_be_answered_is_a_problem_document(served: Served) -> None:
    is_problem(served.get("1"), 404, f"no scores of {MODEL} are published")
    publish_texts(served.store)
    is_problem(served.get("nobody"), 404, "has no entity 'nobody'")
    is_problem(served.get(""), 422, "the entity has 0 characters; allowed are 1 to 512")
    is_problem(served.get("a" * 513), 422, "the entity has 513 characters")
    is_problem(served.get("%FF%FE"), 400, "is not UTF-8")
    is_problem(served.get("a", "POST"), 405, "allowed are GET, HEAD")
    is_problem(served.client.get("/models/another/scores/a"), 404, "there is no model 'another'")
    served.store.point(MODEL, StorePointer("", 2))
    is_problem(served.get("a%2Fb"), 404, f"no scores of {MODEL} are published")
    # Other answers are the package's own.
    assert "1.0.0" == served.client.get(f"/models/{MODEL}").headers["x-model-version"]


def test_switching_tables_gives_no_wrong_and_no_mixed_answer(served: Served) -> None:
    """Given requests without pause, when tables are built, published, undone and deleted, then each answer is of one table."""
    write_table(served.store, "t1", version=1, rows=300)
    served.store.point(MODEL, StorePointer("t1", 1))
    stop = threading.Event()
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        with httpx.Client(base_url=served.replica.url, trust_env=False, timeout=10) as client:
            while not stop.is_set():
                answer = client.get(f"/models/{MODEL}/scores/123")
                document = answer.json()
                assert 200 == answer.status_code, document
                version = int(document["score"])
                whole = (f"t{version}", f"1.0.{version}", version)
                assert whole == (document["table"], answer.headers["x-model-version"], document["registry_version"])
                answers.append((version, document["table"]))

    failures: list[BaseException] = []
    threads = [threading.Thread(target=lambda: _note(ask, failures)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for generation in range(2, 60):
        # Every third switch goes back to the table before, as an undo does.
        version = generation - 2 if generation % 3 == 0 else generation
        write_table(served.store, f"t{version}", version=version, rows=300)
        assert served.store.point(MODEL, StorePointer(f"t{version}", generation))
        assert f"t{version}" == served.get("123").json()["table"]
        for old in served.store.tables(MODEL)[:-3]:
            if old != f"t{version}":
                served.store.delete(MODEL, old)
    stop.set()
    for thread in threads:
        thread.join()
    assert [] == failures
    assert len({version for version, _ in answers}) > 20


def _note(work: object, failures: list[BaseException]) -> None:
    try:
        work()  # type: ignore[operator]
    except BaseException as error:  # noqa: BLE001 - the test fails on it in its own thread
        failures.append(error)


def test_without_a_store_there_are_no_scores(src: Path) -> None:
    with running_replica(src, HOTCOLD_SCORE_STORE="") as replica:
        answer = httpx.get(f"{replica.url}/models/{MODEL}/scores/1", trust_env=False)
        is_problem(answer, 404, f"no score store is set up for {MODEL!r}")


def test_a_redis_server_that_hangs_is_a_503_and_scoring_goes_on(src: Path, redis_server: RedisServer) -> None:
    redis_server.empty()
    with (
        running_replica(src, HOTCOLD_SCORE_STORE=redis_server.url) as replica,
        httpx.Client(base_url=replica.url, trust_env=False, timeout=10) as client,
    ):
        publish_texts(open_score_store(redis_server.url))
        path = f"/models/{MODEL}/scores/a%2Fb"
        assert 0.5 == client.get(path).json()["score"]
        redis_server.process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            answer = client.get(path)
            assert time.monotonic() - started < 1
            is_problem(answer, 503, "the score store does not answer")
            assert "1" == answer.headers["retry-after"]
            assert 200 == client.get(f"/models/{MODEL}").status_code
        finally:
            redis_server.process.send_signal(signal.SIGCONT)
        assert 0.5 == client.get(path).json()["score"]


def test_through_the_edge_with_the_store_that_the_agent_names(data_plane: DataPlane, small_package: Manifest) -> None:
    """Given a released model, when scores are published below home, then the edge answers them, escaped slashes included."""
    data_plane.promote(small_package, Plan(replicas=1, bake_s=0))
    publish_texts(open_score_store(data_plane.settings.score_store))
    with httpx.Client(base_url=data_plane.record.edge_url, trust_env=False, timeout=10) as client:
        for text, score in TEXTS.items():
            answer = client.get(f"/models/{MODEL}/scores/{quoted(text)}", headers={"x-entity-id": "7"})
            assert (200, score) == (answer.status_code, answer.json().get("score")), text
        assert ["1.0.8"] == answer.headers.get_list("x-model-version")
        assert 200 == client.head(f"/models/{MODEL}/scores/a%2Fb").status_code
        is_problem(client.get(f"/models/{MODEL}/scores/a/b"), 404, "nothing is served at")
        is_problem(client.get(f"/models/{MODEL}/scores/"), 404, "nothing is served at")
        is_problem(client.delete(f"/models/{MODEL}/scores/a"), 405, "does not take DELETE")
        # An escaped slash leads nowhere else.
        is_problem(client.get(f"/models/{MODEL}/scores/..%2Fpredict"), 404, "has no entity '../predict'")
