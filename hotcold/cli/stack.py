"""`hotcold up` and `hotcold down`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hotcold.cli.configuration import load_settings

if TYPE_CHECKING:
    from hotcold.adapters.stack_record import StackRecord
    from hotcold.settings import Settings

WaitSeconds = Annotated[float, typer.Option("--wait-s", min=1, help="Longest wait until everything is ready, in seconds.")]


def up(wait_s: WaitSeconds = 180.0) -> None:
    """Start Prefect, MLflow, the worker, the agent and the edge; wait until each is ready; print where they are.

    What runs already is left alone; what a killed stack left behind is cleared away first.
    """
    from hotcold.adapters.stack import bring_up

    settings = load_settings()
    typer.echo(f"starting the stack in {settings.root}")
    record = bring_up(settings, say=lambda line: typer.echo(f"  {line}"), wait_s=wait_s)
    _print_addresses(settings, record)


def down() -> None:
    """End every process of this installation, replicas and flow runs too, also after a crash."""
    from hotcold.adapters.stack import take_down

    settings = load_settings()
    ended = take_down(settings, say=typer.echo)
    for line in ended:
        typer.echo(f"  ended {line}")
    typer.echo(
        f"nothing of {settings.root} is running" if not ended else f"all {len(ended)} processes of {settings.root} are gone"
    )


def _print_addresses(settings: Settings, record: StackRecord) -> None:
    typer.echo("up:")
    for name, address in (
        ("edge", f"{record.edge_url}/models/MODEL/predict"),
        ("Prefect", record.prefect_api_url.removesuffix("/api")),
        ("MLflow", record.mlflow_url),
        ("Envoy admin", f"http://127.0.0.1:{record.admin_port}"),
        ("logs", str(settings.log_dir)),
    ):
        typer.echo(f"  {name:<12} {address}")
