"""Values in [-1, 1] as integer counts on a fixed grid, without moving their mean.

The grid is the one floating-point numbers have, coarser: eight steps per power of two, down to 2^-16, and zero. Score
differences are tiny as a rule, and a uniform grid fine enough for them would have a hundred thousand points where this one has
259. A value between two points is not rounded to one of them, which would move the mean by up to a sixteenth of the value, far
more than the change one looks for. It is shared out: so much of it to the point below and the rest to the point above that the
mean stays. Shares are in units of 1 / 65,536, integers, so that the counts add up exactly in any order.

What is lost: the value is rounded to such a unit, which moves no mean by more than ROUNDING, and `paired_mean` widens its
limits by that; and the value looks a little more spread than it is. The log of a bet's gain is concave, so sharing out never
makes evidence larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.evidence.arguments import as_count, read_keys, require

UNITS = 1 << 16
_OCTAVES, _STEPS = 16, 8
# Sizes of the grid's points: zero, eight to each power of two, one.
_SIZES = np.concatenate(
    [[0.0], *(2.0 ** (octave - _OCTAVES) * (1 + np.arange(_STEPS) / _STEPS) for octave in range(_OCTAVES)), [1.0]]
)
_WIDTHS = np.diff(_SIZES)
_UNITS_PER_WIDTH = UNITS / _WIDTHS
_ZERO = len(_SIZES) - 1
# Points of the grid, ascending, shape (259,); read-only.
NODES = np.concatenate([-_SIZES[:0:-1], _SIZES])
NODES.flags.writeable = False
# The most by which rounding to units moves a value, and so a mean.
ROUNDING = float(_WIDTHS.max()) / (2 * UNITS)
# Exponent and the three leading bits of the fraction of a float64, which number the points.
_SHIFT = 49
_FIRST = int(_SIZES[1:2].view(np.int64)[0] >> _SHIFT)


def _nothing() -> NDArray[np.int64]:
    return np.zeros(len(NODES), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class ValueCounts:
    """How much of the values lies at each point of the grid.

    Args:
        weights: by point, in units of 1 / 65,536 value, shape (259,), int64; read-only.
        clipped: values beyond -1 or 1, which count as -1 or 1.
        invalid: values that are NaN, which are in no weight, or infinite, which are clipped as well. As long as there are any,
            nothing is SAFE.
    """

    weights: NDArray[np.int64] = field(default_factory=_nothing)
    clipped: int = 0
    invalid: int = 0

    def __post_init__(self) -> None:
        self.weights.flags.writeable = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ValueCounts):
            return NotImplemented
        counts = (self.clipped, self.invalid) == (other.clipped, other.invalid)
        return counts and bool(np.array_equal(self.weights, other.weights))

    def __hash__(self) -> int:
        return hash((self.weights.tobytes(), self.clipped, self.invalid))

    @property
    def total(self) -> int:
        """Values that are not NaN."""
        return int(self.weights.sum()) // UNITS

    @property
    def mean(self) -> float:
        """Their mean, clipped; NaN if there is none."""
        weight = int(self.weights.sum())
        return float(self.weights @ NODES) / weight if weight else float("nan")

    def merge(self, other: ValueCounts) -> ValueCounts:
        """The counts of both; the order does not matter."""
        return ValueCounts(self.weights + other.weights, self.clipped + other.clipped, self.invalid + other.invalid)

    def to_json(self) -> dict[str, object]:
        """As plain JSON values; points without weight are left out."""
        weights = {str(node): int(self.weights[node]) for node in np.flatnonzero(self.weights)}
        return {"weights": weights, "clipped": self.clipped, "invalid": self.invalid}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> ValueCounts:
        """Inverse of `to_json`.

        Raises:
            EvidenceError: it is not what `to_json` writes.
        """
        written, clipped, invalid = read_keys(document, ("weights", "clipped", "invalid"), "counted values")
        require(isinstance(written, Mapping), "weights", type(written).__name__, "an object")
        assert isinstance(written, Mapping)  # noqa: S101 - for the type checker
        weights = _nothing()
        for node, weight in written.items():
            require(node.isdecimal() and int(node) < len(NODES), "point of the grid", node, f"0 to {len(NODES) - 1}")
            weights[int(node)] = as_count("weight", weight)
        require(int(weights.sum()) % UNITS == 0, "sum of the weights", int(weights.sum()), f"a multiple of {UNITS}")
        return cls(weights, as_count("clipped", clipped), as_count("invalid", invalid))


def count_values(values: NDArray[Any], scale: float = 1.0) -> ValueCounts:
    """Count n values.

    Args:
        values: shape (n,).
        scale: what counts as 1; a value beyond it is clipped to it, so that the mean is one of clipped values. A scale of the
            size of the values tells sooner, since the evidence has to reckon with a value as large as the scale at any time.

    Raises:
        EvidenceError: the scale is not a positive number, or the values are no vector.
    """
    require(0 < scale < float("inf"), "scale", scale, "more than 0, finite")
    values = np.asarray(values, dtype=np.float64)
    require(values.ndim == 1, "shape of the values", values.shape, "(n,)")
    usable = values[~np.isnan(values)] / scale
    sizes = np.abs(usable)
    clipped = int(np.count_nonzero(sizes > 1.0))
    sizes = np.minimum(sizes, 1.0)
    # Seen from zero: the last point that is not beyond the value, and how much of the value goes to the next one.
    inner = np.minimum(np.maximum((sizes.view(np.int64) >> _SHIFT) - (_FIRST - 1), 0), len(_WIDTHS) - 1)
    outwards = np.rint((sizes - _SIZES[inner]) * _UNITS_PER_WIDTH[inner])
    sign = np.sign(usable).astype(np.int64)
    node = _ZERO + sign * inner
    weights = np.bincount(node, UNITS - outwards, minlength=len(NODES))
    weights += np.bincount(node + sign, outwards, minlength=len(NODES))
    invalid = len(values) - int(np.count_nonzero(np.isfinite(values)))
    return ValueCounts(weights.astype(np.int64), clipped, invalid)
