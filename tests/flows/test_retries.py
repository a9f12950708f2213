"""A task is tried again only after errors that pass by themselves."""

from __future__ import annotations

import pytest
from prefect import task

from hotcold.domain.errors import RegistryError
from tasks.retries import retried_after
from tests.fixtures.flow_runs import in_a_flow

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.mark.parametrize(("error", "tries"), [(RegistryError, 3), (OSError, 3), (ValueError, 1)])
def test_it_is_tried_once_and_again_after_each_pause(error: type[Exception], tries: int) -> None:
    seen: list[str] = []

    @task(persist_result=False, **retried_after(RegistryError, OSError, pauses_s=(0, 0)))
    def fail() -> None:
        seen.append("a try")
        raise error("away")

    with pytest.raises(error, match="away"):
        in_a_flow(fail)
    assert tries == len(seen)


def test_what_works_the_second_time_is_not_tried_a_third() -> None:
    answers = iter([RegistryError("away"), None])

    @task(persist_result=False, **retried_after(RegistryError, pauses_s=(0, 0)))
    def work() -> str:
        if error := next(answers):
            raise error
        return "done"

    assert "done" == in_a_flow(work)
