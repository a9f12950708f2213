"""The machine-readable twin of a shadow report: plain JSON values, with null where something is infinite or unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real

import numpy as np

from hotcold.domain.evidence.finding import Finding
from hotcold.domain.score_histogram import ScoreHistogram
from hotcold.domain.shadow.report import ShadowReport

FORMAT = "hotcold.shadow-report/1"


def report_document(report: ShadowReport) -> dict[str, object]:
    """All that a report holds.

    Args:
        report: of a comparison.

    Returns:
        Values that `json.dumps` writes without `NaN` or `Infinity`, which are no JSON. Findings come with their sentence.
    """
    return {"format": FORMAT, **{field.name: _plain(getattr(report, field.name)) for field in fields(report)}}


def _plain(value: object) -> object:
    if isinstance(value, Finding | ScoreHistogram):
        return _plain(value.to_json())
    if isinstance(value, str) or value is None:
        return None if value is None else str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return _plain_number(value)


def _plain_number(value: object) -> object:
    """Also of NumPy, whose numbers the JSON of the standard library does not know."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    raise TypeError(f"a shadow report holds {type(value).__name__}; allowed are numbers, words and what is made of these")
