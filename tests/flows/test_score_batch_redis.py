"""score-batch with Redis as the score store: in a real Prefect, on a real Dask cluster, with a real server."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.score_batch import score_batch
from hotcold.adapters.release_database import ReleaseDatabase
from hotcold.adapters.score_lookup import ScoreLookup
from hotcold.adapters.score_pointer import open_table, read_pointer
from hotcold.domain.package import Manifest
from hotcold.settings import Settings
from tests.fixtures.batch import make_table, write_parquet
from tests.fixtures.packages import MODEL
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.releases import promote

pytestmark = pytest.mark.usefixtures("prefect_server")

ROWS = 5_000


@pytest.fixture
def home(
    tmp_path: Path,
    bento_home: Path,
    mlflow_sqlite: str,
    redis_server: RedisServer,
    small_package: Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """An installation with a champion, whose score store is the server."""
    redis_server.empty()
    for name, value in {
        "HOTCOLD_HOME": str(tmp_path),
        "HOTCOLD_SCORE_STORE_URL": redis_server.url,
        "MLFLOW_TRACKING_URI": mlflow_sqlite,
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "bentoml").symlink_to(bento_home)
    releases = ReleaseDatabase(Settings().release_database_url)
    releases.prepare()
    promote(releases, small_package.ref)
    releases.close()
    return tmp_path


def score(home: Path, seed: int, cluster: str) -> None:
    source = write_parquet(make_table(ROWS, seed), home / f"in-{seed}.parquet")
    state = score_batch(
        model=MODEL,
        input_url=str(source),
        output_url=str(home / "out"),
        id_column="flight_id",
        rows_per_part=1000,
        cluster=cluster,
        quality={"max_psi": 10.0},
        return_state=True,
    )
    assert state.is_completed(), f"{state.name}: {state.message}"


def test_what_a_run_publishes_is_what_a_lookup_finds(
    home: Path, redis_server: RedisServer, small_package: Manifest, dask_scheduler: str
) -> None:
    """Also of the next run: one lookup, as a scorer keeps it, sees both tables, the one after the other."""
    lookup, seen = ScoreLookup(redis_server.url, MODEL), set()
    for seed in (0, 1):
        score(home, seed, dask_scheduler)
        published = pq.read_table(open_table(str(home / "out")))
        found = [lookup.find(str(entity)) for entity in published["flight_id"].to_pylist()]
        assert published["score"].to_pylist() == [stored.score for stored in found if stored]
        (header,) = {stored.header for stored in found if stored}
        assert (small_package.digest, ROWS) == (header.digest, header.entities)
        assert read_pointer(str(home / "out")).table == header.table_id
        assert lookup.find("no-such-flight") is None
        seen.add(header.table_id)
    assert 2 == len(seen)
    assert not (home / "scores" / "store").exists(), "nothing goes to the store below home"
