"""Where late labels of a model come from, and how they are joined to its requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from hotcold.domain.errors import LabelError

DEFAULT_TOLERANCE_S, DEFAULT_MAX_WAIT_H = 5.0, 72.0


@dataclass(frozen=True)
class LabelSource:
    """Files of labels and what their columns mean: joined by request id, or by entity and time.

    Args:
        model: registered model name.
        labels_url: Parquet or CSV: a file, a folder, or a pattern with `*`.
        label_column: what became of it: 0 or 1, or a share in between.
        request_id_column: the id of the request; empty to join by entity and time.
        entity_column: the entity; empty to join by request id.
        time_column: when the entity's request was sent; empty to join by request id.
        known_at_column: when the label became known; empty: when its file was first seen.
        tolerance_s: how far from that time a request may have arrived, before or after.
        max_wait_h: for how long a file is read again while some of its labels find no request.
    """

    model: str
    labels_url: str
    label_column: str
    request_id_column: str = ""
    entity_column: str = ""
    time_column: str = ""
    known_at_column: str = ""
    tolerance_s: float = DEFAULT_TOLERANCE_S
    max_wait_h: float = DEFAULT_MAX_WAIT_H

    def __post_init__(self) -> None:
        if not (self.model and self.labels_url and self.label_column):
            raise LabelError("labels need a model, a labels_url and a label_column; one of them is empty")
        if bool(self.request_id_column) == bool(self.entity_column) or bool(self.entity_column) != bool(self.time_column):
            seen = ", ".join(
                f"{name}={value!r}"
                for name, value in asdict(self).items()
                if name in ("request_id_column", "entity_column", "time_column")
            )
            raise LabelError(f"labels are joined by request_id_column, or by entity_column and time_column; given are {seen}")
        if len(set(self.columns)) != len(self.columns):
            raise LabelError(f"one column is named for two things: {', '.join(self.columns)}; each needs one of its own")
        for name in ("tolerance_s", "max_wait_h"):
            if not (0 <= getattr(self, name) < math.inf):
                raise LabelError(f"{name} is {getattr(self, name)}; allowed is a number from 0")

    @property
    def is_timed(self) -> bool:
        """Joined by entity and time."""
        return bool(self.entity_column)

    @property
    def key_column(self) -> str:
        """The request id or the entity."""
        return self.entity_column or self.request_id_column

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read: the key first."""
        named = (self.key_column, self.label_column, self.time_column, self.known_at_column)
        return tuple(name for name in named if name)

    @property
    def meaning(self) -> tuple[Any, ...]:
        """All that decides what a file says: joined with another meaning, it is another file."""
        return (*(getattr(self, name) for name in _COLUMNS), self.tolerance_s)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; the parameters of `join-labels` that ask for the same."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Inverse of `to_json`.

        Raises:
            LabelError: it is none.
        """
        try:
            return cls(**document)  # type: ignore[arg-type]
        except TypeError as error:
            raise LabelError(f"not a source of labels: {error}; name it again with labels_url") from error


_COLUMNS = ("label_column", "request_id_column", "entity_column", "time_column", "known_at_column")


def complete_source(given: Mapping[str, Any], before: LabelSource | None) -> LabelSource | None:
    """Fill in what was left empty from the model's last source. Columns are taken over all together, or none of them.

    Args:
        given: parameters of `join-labels`; None, or an empty text, is left empty.
        before: where the model's labels came from last; None if there were none.

    Returns:
        The source; None if no labels were named, now or ever.

    Raises:
        LabelError: the parameters contradict each other.
    """
    names = (*_COLUMNS, "model", "labels_url", "tolerance_s", "max_wait_h")
    wanted = {name: value for name, value in given.items() if name in names and value not in (None, "")}
    known = before.to_json() if before else {}
    if any(name in wanted for name in _COLUMNS):
        known = {name: value for name, value in known.items() if name not in _COLUMNS}
    values = {"label_column": "", **known, **wanted}
    return LabelSource(**values) if values.get("labels_url") else None
