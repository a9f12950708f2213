"""What counts and limits have to be before anything is computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import index

from hotcold.domain.errors import EvidenceError


def require(holds: bool, name: str, seen: object, allowed: str) -> None:
    """Refuse what cannot be.

    Raises:
        EvidenceError: it does not hold.
    """
    if not holds:
        raise EvidenceError(f"evidence: {name} is {seen}; allowed is {allowed}")


def require_share(name: str, value: float) -> None:
    """A share that is neither nothing nor everything.

    Raises:
        EvidenceError: it lies outside (0, 1), or is NaN.
    """
    require(0.0 < value < 1.0, name, value, "more than 0, less than 1")


def as_count(name: str, value: object) -> int:
    """A number of things that were counted.

    Raises:
        EvidenceError: it is no integer, or negative.
    """
    try:
        count = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    require(count >= 0, name, value, "an integer from 0")
    return count


def read_keys(document: Mapping[str, object], keys: tuple[str, ...], what: str) -> tuple[object, ...]:
    """Values of a JSON document that has exactly these keys.

    Raises:
        EvidenceError: a key is missing or unknown; counts that are only half understood are no evidence.
    """
    require(isinstance(document, Mapping), what, type(document).__name__, "an object")
    require(set(document) == set(keys), f"the keys of {what}", ", ".join(map(str, document)) or "nothing", ", ".join(keys))
    return tuple(document[key] for key in keys)


def threshold(alpha: float) -> float:
    """What the log of an e-value has to reach to reject at level `alpha`: ln(1 / alpha), nats.

    Raises:
        EvidenceError: alpha lies outside (0, 1).
    """
    require_share("alpha", alpha)
    return -math.log(alpha)
