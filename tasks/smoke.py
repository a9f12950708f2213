"""Ask a slot, or the edge, for golden rows."""

from prefect import task

from hotcold.adapters.golden import GoldenClient, GoldenSample, read_golden_sample
from hotcold.adapters.packages import package_dir
from hotcold.domain.gate import Gate
from hotcold.domain.package import PackageRef
from hotcold.domain.serving import Slot
from hotcold.domain.smoke import Answer, judge_smoke
from hotcold.settings import Settings

_ROWS_PER_REQUEST = 8


@task(name="smoke test", task_run_name="smoke test {slot}", persist_result=False)
def run_smoke_tests(package: PackageRef, slot: Slot, edges: tuple[str, ...]) -> Gate:
    """Ask the slot on every node for the whole golden sample, and make sure that wrong requests are refused."""
    sample = golden_sample(package)
    answers, refusals = [], []
    for edge_url in edges:
        client = GoldenClient(edge_url, package.model, slot.value)
        try:
            answers += [
                client.ask(sample, first, _ROWS_PER_REQUEST) for first in range(0, len(sample.matrix), _ROWS_PER_REQUEST)
            ]
            refusals += client.ask_wrongly()
        finally:
            client.close()
    return judge_smoke(package, answers, refusals)


def golden_sample(package: PackageRef) -> GoldenSample:
    """The package's reference sample."""
    return read_golden_sample(package_dir(package, Settings().bento_home))


class EdgeProbe:
    """Sends a few golden rows through each edge, as any consumer would, and keeps the latest answers.

    Args:
        package: what should answer.
    """

    def __init__(self, package: PackageRef) -> None:
        self.package = package
        self.recent: list[Answer] = []
        self._sample = golden_sample(package)
        self._clients: dict[str, GoldenClient] = {}

    def ask(self, edges: tuple[str, ...]) -> list[Answer]:
        """One request to each edge; rows are taken in turn."""
        first = len(self.recent) * _ROWS_PER_REQUEST % len(self._sample.matrix)
        for edge_url in edges:
            client = self._clients.setdefault(edge_url, GoldenClient(edge_url, self.package.model))
            self.recent.append(client.ask(self._sample, first, _ROWS_PER_REQUEST))
        return self.recent

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()
