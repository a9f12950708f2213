"""The one typed settings class: environment variables with the prefix `HOTCOLD_`, or a `.env` file."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where things are and how long they may take.

    A port of 0 means: the usual one if it is free, else any free one. A port that was given and is taken is an error.
    Everything listens on loopback; only `edge_host` may be set to something else.
    """

    model_config = SettingsConfigDict(env_prefix="HOTCOLD_", env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(default=Path("var"), description="Every state of this installation lies below this folder.")
    node: str = Field(default="local", pattern=r"^[a-z0-9][a-z0-9-]{0,40}$", description="Name of this serving node.")

    database_url: str = Field(default="", description="Release database; empty: SQLite below home.")
    prefect_database_url: str = Field(default="", description="Prefect's database; empty: SQLite below home.")
    mlflow_database_url: str = Field(default="", description="MLflow's backend store; empty: SQLite below home.")
    score_store_url: str = Field(
        default="", description="Where live lookups find published scores: a Redis URL or a folder; empty: a folder below home."
    )
    mlflow_artifacts: str = Field(default="", description="MLflow's artifact root; empty: a folder below home.")

    edge_host: str = Field(default="127.0.0.1", description="Address on which the edge takes requests.")
    edge_port: int = Field(default=0, ge=0, le=65535)
    edge_admin_port: int = Field(default=0, ge=0, le=65535)
    prefect_port: int = Field(default=0, ge=0, le=65535)
    mlflow_port: int = Field(default=0, ge=0, le=65535)
    webhook_port: int = Field(default=0, ge=0, le=65535)

    promote_on_alias: bool = Field(
        # Off: training sets this alias, on a schedule too, and nobody's live traffic should move because of an upgrade.
        default=False,
        description="A version that is given the alias `candidate` in MLflow is promoted, with the default plan.",
    )

    agent_interval_s: float = Field(default=0.1, gt=0, description="How often the agent reads the desired state.")
    controller_timeout_s: float = Field(
        default=10.0, gt=0, description="A controller whose lease was not renewed for this long is taken for dead."
    )
    drain_s: float = Field(default=5.0, gt=0, description="Longest wait for a replica's requests in flight.")
    replica_ready_timeout_s: float = Field(default=60.0, gt=0, description="Longest wait for a new replica.")

    prediction_log: bool = Field(default=True, description="Replicas log every answer; what judges releases reads it.")
    prediction_rotate_s: float = Field(default=60.0, gt=0, description="A log segment is closed when it is this old.")
    prediction_rotate_bytes: int = Field(default=64 * 2**20, ge=2**16, description="Or when it is this large.")
    prediction_feature_rate: float = Field(
        default=1.0, ge=0, le=1, description="Share of requests whose features are logged; of the others a hash is."
    )
    prediction_keep_days: int = Field(default=30, ge=1, description="Logged answers are deleted when they are older.")

    notify_url: str = Field(
        default="",
        description="Webhook that is told when a release ends, goes back or asks; empty: `notices.jsonl` below home.",
    )

    @property
    def root(self) -> Path:
        """The home folder as an absolute path."""
        return self.home.expanduser().resolve()

    @property
    def release_database_url(self) -> str:
        """SQLAlchemy URL of the release database."""
        return self.database_url or f"sqlite:///{self.root / 'db' / 'release.db'}"

    @property
    def bento_home(self) -> Path:
        """BENTOML_HOME of the package store: packages lie in `bentos/<model>/<version>`."""
        return self.root / "bentoml"

    @property
    def score_store(self) -> str:
        """URL of a Redis server, or the folder of the score store as an absolute path."""
        url = self.score_store_url
        if "://" in url:
            return url
        return str(Path(url).expanduser().resolve() if url else self.root / "scores" / "store")

    @property
    def edge_dir(self) -> Path:
        """Folder that Envoy watches."""
        return self.root / "edge"

    @property
    def log_dir(self) -> Path:
        """One log file per process."""
        return self.root / "log"

    @property
    def prediction_dir(self) -> Path:
        """The prediction log, a folder per model."""
        return self.log_dir / "predictions"

    @property
    def label_dir(self) -> Path:
        """Labels that were joined to logged requests, a folder per model."""
        return self.log_dir / "labels"

    @property
    def secret_dir(self) -> Path:
        """Secrets that this installation has made for itself; for its user alone."""
        return self.root / "secrets"

    @property
    def run_dir(self) -> Path:
        """Process ids, ports and other facts of the running stack."""
        return self.root / "run"
