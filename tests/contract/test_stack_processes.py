"""What the stack's processes are told, and that the installed MLflow still understands it."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import ANY

import pytest

from hotcold.adapters.stack_environment import process_environment
from hotcold.adapters.stack_processes import ProcessSpec, stack_processes
from hotcold.adapters.stack_record import StackRecord
from hotcold.settings import Settings

RECORD = StackRecord("http://127.0.0.1:1", 1, 2, 3, 4, "http://127.0.0.1:3/api", "http://127.0.0.1:4")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "var")


def process(settings: Settings, name: str) -> ProcessSpec:
    return next(spec for spec in stack_processes(settings, RECORD) if spec.name == name)


def test_mlflow_reads_the_names_that_its_command_would_set(settings: Settings) -> None:
    """They are private to MLflow: an upgrade that renames them must fail here, not in somebody's registry."""
    from mlflow.server import constants

    environment = process(settings, "mlflow-server").environment
    database = f"sqlite:///{settings.root}/mlflow/mlflow.db"
    assert database == environment[constants.BACKEND_STORE_URI_ENV_VAR]
    assert database == environment[constants.REGISTRY_STORE_URI_ENV_VAR]
    assert "mlflow-artifacts:/" == environment[constants.ARTIFACT_ROOT_ENV_VAR]
    assert f"{settings.root}/mlflow/artifacts" == environment[constants.ARTIFACTS_DESTINATION_ENV_VAR]
    assert "true" == environment[constants.SERVE_ARTIFACTS_ENV_VAR]


def test_the_users_own_tools_do_not_leak_in(settings: Settings) -> None:
    own = {
        "PATH": "/bin",
        "PREFECT_API_KEY": "secret",
        "PREFECT_PROFILE": "work",
        "MLFLOW_TRACKING_USERNAME": "me",
        "BENTOML_HOME": "/home/me/bentoml",
        "HOTCOLD_EDGE_PORT": "1",
    }
    environment = process_environment(settings, RECORD, "worker", own)
    assert {"PREFECT_API_KEY", "PREFECT_PROFILE", "MLFLOW_TRACKING_USERNAME"}.isdisjoint(environment)
    assert ("/bin", "0") == (environment["PATH"], environment["HOTCOLD_EDGE_PORT"])
    assert str(settings.bento_home) == environment["BENTOML_HOME"]


def test_a_proxy_is_not_used_for_loopback(settings: Settings) -> None:
    environment = process_environment(settings, RECORD, "worker", {"NO_PROXY": "intranet", "HTTPS_PROXY": "http://proxy:1"})
    assert ("intranet,127.0.0.1,localhost", "http://proxy:1") == (environment["NO_PROXY"], environment["HTTPS_PROXY"])


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u:p@db/prefect", "postgresql+asyncpg://u:p@db/prefect"),
        ("postgresql+asyncpg://u:p@db/prefect", "postgresql+asyncpg://u:p@db/prefect"),
        ("sqlite:////data/prefect.db", "sqlite+aiosqlite:////data/prefect.db"),
    ],
)
def test_plain_database_urls_become_what_prefect_wants(settings: Settings, given: str, used: str) -> None:
    changed = settings.model_copy(update={"prefect_database_url": given})
    assert used == process_environment(changed, RECORD, "worker", {})["PREFECT_API_DATABASE_CONNECTION_URL"]


def test_every_server_is_told_to_listen_on_loopback(settings: Settings) -> None:
    for name in ("prefect-server", "mlflow-server"):
        argv = process(settings, name).argv
        assert "127.0.0.1" == argv[argv.index("--host") + 1]


def test_mlflow_may_call_this_machine_only_where_aliases_promote(settings: Settings) -> None:
    """It weakens MLflow's own protection, so it is not there by default; the names are private to MLflow."""
    from mlflow import environment_variables as names

    variables = {
        names._MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS.name: "true",
        names._MLFLOW_WEBHOOK_ALLOWED_SCHEMES.name: "https,http",
        names.MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY.name: ANY,
    }
    assert variables.keys().isdisjoint(process(settings, "mlflow-server").environment)
    on = settings.model_copy(update={"promote_on_alias": True})
    environment = process(on, "mlflow-server").environment
    assert variables == {name: environment[name] for name in variables}
    # The key is for MLflow alone.
    key = environment[names.MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY.name]
    assert ["mlflow-server"] == [spec.name for spec in stack_processes(on, RECORD) if key in spec.environment.values()]


def test_the_receiver_of_the_webhook_runs_only_where_aliases_promote(settings: Settings) -> None:
    def named(chosen: Settings) -> list[str]:
        return [spec.name for spec in stack_processes(chosen, RECORD)]

    assert "registry-webhook" not in named(settings)
    assert [*named(settings), "registry-webhook"] == named(settings.model_copy(update={"promote_on_alias": True}))
