"""Pairs of request ids that are in the log more than once: joined by id and time, so that windows of any length agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one side.

    Args:
        code: shape (n,), int: number of the request id, the same on both sides.
        at_us: shape (n,), int64, when they arrived.
    """

    code: NDArray[np.int64]
    at_us: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Nearest:
    """Who is near whom.

    Args:
        partner: shape (n,), int: of each row of the champion the one row of the candidate near; -1 unless there is just one,
            and no other row of the champion with this id near.
        is_alone: shape (n,), bool: rows of the champion with nothing near at all.
        has_request: shape (m,), bool: rows of the candidate with one of the champion near.
    """

    partner: NDArray[np.int64]
    is_alone: NDArray[np.bool_]
    has_request: NDArray[np.bool_]


def join_near(champion: Rows, candidate: Rows, slack_us: int) -> Nearest:
    """Join rows with the same id that arrived within a slack; what is further off is in another window, so it must not matter.

    Args:
        champion: n rows.
        candidate: m rows.
        slack_us: how far apart they may be.
    """
    times = np.concatenate([champion.at_us, candidate.at_us])
    least, greatest = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    # One number for id and time, ids further apart than any slack: what is near lies between two places of a sorted array.
    stride = greatest - least + 2 * slack_us + 1
    own, others = (rows.code.astype(np.int64) * stride + (rows.at_us - least) for rows in (champion, candidate))
    order = np.argsort(others, kind="stable")
    first, partners = _near(own, others[order], slack_us)
    _, same = _near(own, np.sort(own), slack_us)
    partner = np.full(len(own), -1, dtype=np.int64)
    single = (same == 1) & (partners == 1)
    partner[single] = order[first[single]]
    return Nearest(partner, (same == 1) & (partners == 0), _near(others, np.sort(own), slack_us)[1] > 0)


def _near(keys: NDArray[np.int64], among: NDArray[np.int64], slack: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of sorted numbers, the place of the first that is near to each key, and how many are."""
    first = np.searchsorted(among, keys - slack, "left").astype(np.int64)
    end = np.searchsorted(among, keys + slack, "right").astype(np.int64)
    return first, end - first
