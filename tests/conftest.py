"""Fixtures of all tests; each plugin starts real processes and ends them."""

from __future__ import annotations

pytest_plugins = [
    "tests.fixtures.databases",
    "tests.fixtures.redis_server",
    "tests.fixtures.mlflow_stores",
    "tests.fixtures.flow_runs",
    "tests.fixtures.packages",
    "tests.fixtures.batch",
    "tests.fixtures.data_plane",
    "tests.fixtures.score_tables",
    "tests.fixtures.scoring_scene",
    "tests.fixtures.stack",
    "tests.fixtures.web_folder",
    "tests.fixtures.world",
]
