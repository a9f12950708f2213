"""When a task is tried again: only after errors that pass by themselves."""

from collections.abc import Sequence
from typing import Any

from prefect import State


def retried_after(*errors: type[Exception], pauses_s: Sequence[float]) -> dict[str, Any]:
    """Options of a task that is tried again after these errors, and after no others.

    Args:
        errors: that may be gone a moment later, such as a registry that is away.
        pauses_s: before each further try, seconds; there are as many tries.
    """

    async def may_pass(_task: object, _run: object, state: State) -> bool:
        return isinstance(await state.aresult(raise_on_failure=False), errors)

    return {"retries": len(pauses_s), "retry_delay_seconds": list(pauses_s), "retry_condition_fn": may_pass}
