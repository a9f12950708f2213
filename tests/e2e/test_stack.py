"""The local stack: up, ready, healing, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from hotcold.adapters.survivors import MARKER, REPLICA_NAME, find_survivors, instance_of
from tests.fixtures.stack import Installation, command, free_ports, make_installation, wait_for

pytestmark = pytest.mark.e2e

PROCESSES = ("prefect-server", "mlflow-server", "worker", "agent", "envoy")
DEPLOYMENTS = {
    "train-model",
    "evaluate-shadow",
    "replay-shadow",
    "cut-over",
    "promote-model",
    "decide-release",
    "roll-back",
    "score-batch",
    "score-requested",
    "compact-predictions",
    "join-labels",
    "sync-registry",
    "watch-registry",
    "guard-release",
}


def names(installation: Installation) -> list[str]:
    """What lives of an installation."""
    return sorted(survivor.name for survivor in find_survivors(instance_of(installation.settings.root)))


def minutely(installation: Installation) -> dict[str, tuple[float, bool]]:
    """Interval in seconds of the two that look after releases, and whether it is kept."""
    found = httpx.post(f"{installation.record.prefect_api_url}/deployments/filter", json={}, timeout=10).json()
    wanted = [entry for entry in found if entry["name"] in ("guard-release", "watch-registry")]
    return {e["name"]: (s["schedule"]["interval"], s["active"]) for e in wanted for s in e["schedules"]}


def start_marked(instance: str, **environment: str) -> subprocess.Popen[bytes]:
    """A process that carries the marker, as a replica or a flow run would, and shrugs off SIGTERM."""
    program = "trap '' TERM; while :; do sleep 0.1; done"
    return subprocess.Popen(
        ["sh", "-c", program], env={"PATH": os.environ["PATH"], MARKER: instance, **environment}, start_new_session=True
    )


def is_gone(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


class TestUp:
    def test_each_server_answers(self, stack: Installation) -> None:
        record = stack.record
        for url in (
            f"http://127.0.0.1:{record.admin_port}/ready",
            f"{record.prefect_api_url}/health",
            f"{record.mlflow_url}/health",
            record.mlflow_url,
            record.prefect_api_url.removesuffix("/api"),
        ):
            assert (url, 200) == (url, httpx.get(url, follow_redirects=True, timeout=10).status_code)

    def test_all_deployments_are_there_with_forms(self, stack: Installation) -> None:
        found = httpx.post(f"{stack.record.prefect_api_url}/deployments/filter", json={}, timeout=10).json()
        assert DEPLOYMENTS == {entry["name"] for entry in found}
        cut_over = next(entry for entry in found if entry["name"] == "cut-over")
        assert ("flows.cut_over.cut_over", []) == (cut_over["entrypoint"], cut_over["pull_steps"] or [])
        assert {"model", "version", "plan", "continues"} == cut_over["parameter_openapi_schema"]["properties"].keys()
        assert "BlueGreenPlan" in cut_over["parameter_openapi_schema"]["definitions"]
        assert all(entry["description"] and "hotcold" in entry["tags"] for entry in found)

    def test_batch_runs_come_every_night_and_one_at_a_time(self, stack: Installation) -> None:
        found = httpx.post(f"{stack.record.prefect_api_url}/deployments/filter", json={}, timeout=10).json()
        (nightly,) = [entry for entry in found if entry["name"] == "score-batch"]
        (schedule,) = nightly["schedules"]
        assert ("30 2 * * *", "UTC", True) == (
            *(schedule["schedule"][name] for name in ("cron", "timezone")),
            schedule["active"],
        )
        assert {"model": ""} == schedule["parameters"]
        limit = (nightly["global_concurrency_limit"]["limit"], nightly["concurrency_options"]["collision_strategy"])
        assert (1, "ENQUEUE") == limit

    def test_labels_are_joined_every_hour_and_one_run_at_a_time(self, stack: Installation) -> None:
        found = httpx.post(f"{stack.record.prefect_api_url}/deployments/filter", json={}, timeout=10).json()
        (hourly,) = [entry for entry in found if entry["name"] == "join-labels"]
        (schedule,) = hourly["schedules"]
        assert ("47 * * * *", True, {"model": ""}) == (
            schedule["schedule"]["cron"],
            schedule["active"],
            schedule["parameters"],
        )
        limit = (hourly["global_concurrency_limit"]["limit"], hourly["concurrency_options"]["collision_strategy"])
        assert (1, "CANCEL_NEW") == limit

    def test_drivers_are_looked_for_every_minute_and_candidates_only_where_aliases_promote(self, stack: Installation) -> None:
        assert {"guard-release": (60.0, True), "watch-registry": (60.0, False)} == minutely(stack)

    def test_a_flow_runs_in_the_worker(self, stack: Installation) -> None:
        run = stack.run_flow("sync-registry/sync-registry")
        assert ("COMPLETED", run.message) == (run.state, run.message)

    def test_nothing_listens_beyond_loopback(self, stack: Installation) -> None:
        instance = instance_of(stack.settings.root)
        listening = {
            (survivor.name, connection.laddr.ip)
            for survivor in find_survivors(instance)
            for connection in survivor.process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.ip != "127.0.0.1"
        }
        assert set() == listening

    def test_up_again_changes_nothing(self, stack: Installation) -> None:
        before = {name: stack.process(name).pid for name in PROCESSES}
        again = stack.hotcold("up")
        assert (0, "already up" in again.stdout) == (again.returncode, True), again.stderr
        assert stack.record.prefect_api_url.removesuffix("/api") in again.stdout
        assert before == {name: stack.process(name).pid for name in PROCESSES}

    def test_status_tells_what_runs(self, stack: Installation) -> None:
        answer = stack.hotcold("status", "--json")
        report = json.loads(answer.stdout)
        assert (0, True) == (answer.returncode, report["up"])
        assert {"supervisor", *PROCESSES} == {process["name"] for process in report["processes"] if process["running"]}
        assert "worker" in stack.hotcold("status").stdout

    def test_logs_are_shown_by_name(self, stack: Installation) -> None:
        assert "Worker 'hotcold-local' started" in stack.hotcold("logs", "worker", "-n", "2000").stdout
        unknown = stack.hotcold("logs", "nobody")
        assert (1, True) == (unknown.returncode, "there are logs of agent" in unknown.stderr)

    def test_the_users_own_prefect_and_mlflow_do_not_leak_in(self, stack: Installation) -> None:
        environment = psutil.Process(stack.process("worker").pid).environ()
        assert stack.record.prefect_api_url == environment["PREFECT_API_URL"]
        assert str(stack.settings.root / "prefect") == environment["PREFECT_HOME"]
        assert "false" == environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"]


class TestHealing:
    @pytest.mark.parametrize("name", PROCESSES)
    def test_what_is_killed_is_started_again_within_a_second(self, stack: Installation, name: str) -> None:
        before = stack.process(name)
        os.kill(before.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        wait_for(lambda: stack.process(name).pid != before.pid, 10, f"{name} to be started again")
        assert time.monotonic() - killed_at < 1.0
        assert before.restarts + 1 == stack.process(name).restarts
        assert "signal 9" in stack.process(name).last_end
        # `up` returns when all is really ready again.
        assert 0 == stack.hotcold("up").returncode

    def test_a_killed_supervisor_takes_nothing_with_it_and_up_heals(self, stack: Installation) -> None:
        """Until somebody runs `up`, traffic goes on; `up` replaces the processes, and leaves replicas to the new agent."""
        instance = instance_of(stack.settings.root)
        record = stack.record
        replica = start_marked(instance, **{REPLICA_NAME: "none/blue/0"})
        try:
            os.kill(record.supervisor_pid, signal.SIGKILL)
            wait_for(lambda: "supervisor" not in names(stack), 5, "the end of the supervisor")
            assert 200 == httpx.get(f"http://127.0.0.1:{record.admin_port}/ready", timeout=5).status_code
            assert 1 == stack.hotcold("status").returncode

            healed = stack.hotcold("up")
            assert (0, True) == (healed.returncode, "an earlier stack had left" in healed.stdout), healed.stderr
            assert "replica none/blue/0" not in healed.stdout
            assert (record.edge_port, record.prefect_port) == (stack.record.edge_port, stack.record.prefect_port)
            assert 1 == names(stack).count("envoy")
        finally:
            replica.kill()
            replica.wait()


class TestDown:
    def test_two_ups_at_once_make_one_stack_and_down_ends_all_of_it_even_after_a_killed_supervisor_and_nothing_else(
        self, installation: Installation
    ) -> None:
        """With the receiver of MLflow's webhook, which other stacks here do without."""
        instance, environment = instance_of(installation.settings.root), installation.environment(PROMOTE_ON_ALIAS="true")
        ups = [subprocess.Popen(command("up"), env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [up.communicate(timeout=240)[0] for up in ups]
        assert [0, 0] == [up.returncode for up in ups]
        assert 1 == sum("already up" in text for text in said)
        assert sorted(("supervisor", "registry-webhook", *PROCESSES)) == names(installation)
        assert (60.0, True) == minutely(installation)["watch-registry"]
        replica = start_marked(instance, **{REPLICA_NAME: "flights/blue/0"})
        foreign = start_marked("0123456789abcdef")
        try:
            os.kill(installation.record.supervisor_pid, signal.SIGKILL)
            down = installation.hotcold("down")

            assert (0, []) == (down.returncode, names(installation)), down.stderr
            assert "ended replica flights/blue/0" in down.stdout
            assert (True, False) == (is_gone(replica), is_gone(foreign))
            again = installation.hotcold("down")
            assert (0, True) == (again.returncode, "nothing of" in again.stdout)
            assert 1 == installation.hotcold("status").returncode
        finally:
            for process in (replica, foreign):
                process.kill()
                process.wait()

    def test_down_ends_what_a_killed_up_had_started(self, installation: Installation) -> None:
        up = subprocess.Popen(command("up"), env=installation.environment(), stdout=subprocess.DEVNULL, start_new_session=True)
        wait_for(lambda: "prefect-server" in names(installation), 30, "the first processes")
        os.killpg(up.pid, signal.SIGKILL)
        up.wait()
        assert (0, []) == (installation.hotcold("down").returncode, names(installation))

    def test_down_without_a_home_is_fine_and_makes_none(self, installation: Installation) -> None:
        assert 0 == installation.hotcold("down").returncode
        assert not installation.settings.root.exists()


class TestRefusals:
    def test_a_taken_port_is_named_with_its_setting_and_nothing_is_started(self, installation: Installation) -> None:
        port = free_ports(1)[0]
        with socket.create_server(("127.0.0.1", port)):
            up = installation.hotcold("up", MLFLOW_PORT=str(port))
        assert (1, []) == (up.returncode, names(installation))
        assert f"port {port} (HOTCOLD_MLFLOW_PORT) is taken" in up.stderr
        assert "Traceback" not in up.stderr

    def test_a_home_that_is_a_file_is_refused(self, installation: Installation) -> None:
        installation.settings.root.write_text("")
        up = installation.hotcold("up")
        assert (1, True) == (up.returncode, "is a file; hotcold needs a folder" in up.stderr), up.stderr

    def test_a_read_only_home_is_refused(self, mounted: tuple[Path, str]) -> None:
        folder, _ = mounted
        _mount(folder, "-o", "remount,ro")
        up = make_installation(folder / "var").hotcold("up")
        assert (1, True) == (up.returncode, "cannot be written (Read-only file system)" in up.stderr), up.stderr

    def test_a_full_disk_is_refused(self, mounted: tuple[Path, str]) -> None:
        folder, size = mounted
        up = make_installation(folder / "var").hotcold("up")
        assert (1, True) == (up.returncode, "is full" in up.stderr), (size, up.stderr)

    def test_a_port_that_is_no_number_is_refused(self, installation: Installation) -> None:
        up = installation.hotcold("up", EDGE_PORT="abc")
        assert (1, True) == (up.returncode, "HOTCOLD_EDGE_PORT is 'abc'" in up.stderr)

    def test_a_server_that_cannot_start_is_told_with_its_log_and_leaves_nothing(self, installation: Installation) -> None:
        """Prefect's database cannot be opened."""
        up = installation.hotcold("up", PREFECT_DATABASE_URL="sqlite+aiosqlite:////proc/no/such/prefect.db")
        assert (1, []) == (up.returncode, names(installation))
        assert "prefect-server ended 4 times in a row" in up.stderr
        assert "prefect-server.log:" in up.stderr
        assert "unable to open database file" in up.stderr


def _mount(folder: Path, *options: str) -> None:
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this user may not mount: {done.stderr.strip()}")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A disk of 4 MiB."""
    size = "4m"
    _mount(tmp_path, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    yield tmp_path, size
    subprocess.run(["umount", str(tmp_path)], check=True)
