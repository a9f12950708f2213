"""What a model learns from and what it is tried on: two windows in time, the later one never seen in training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.errors import TrainingError
from hotcold.domain.schema import Matrix, Schema

SAMPLE_ROWS = 256


@dataclass(frozen=True)
class Windows:
    """Days of training and, right after them, days of evaluation; all days are included."""

    train_from: date
    train_until: date
    evaluate_from: date
    evaluate_until: date

    @property
    def training(self) -> tuple[str, str]:
        """First and last day of training, ISO 8601."""
        return self.train_from.isoformat(), self.train_until.isoformat()

    @property
    def evaluation(self) -> tuple[str, str]:
        """First and last day of evaluation, ISO 8601."""
        return self.evaluate_from.isoformat(), self.evaluate_until.isoformat()


def plan_windows(train_from: date, train_until: date, evaluate_weeks: int, first_day: date, last_day: date) -> Windows:
    """Place the evaluation right after the training.

    Args:
        train_from: first day of training.
        train_until: last day of training.
        evaluate_weeks: length of the evaluation; cut off where the data ends.
        first_day: first day of the data.
        last_day: last day of the data.

    Returns:
        Both windows, neither empty, both inside the data.

    Raises:
        TrainingError: a window is empty or outside the data.
    """
    data = f"the data covers {first_day} to {last_day}"
    if train_from > train_until:
        raise TrainingError(f"training from {train_from} until {train_until} is empty; the first day has to come first")
    if train_from < first_day or train_until > last_day:
        raise TrainingError(f"training from {train_from} until {train_until} is outside the data; {data}")
    if evaluate_weeks < 1:
        raise TrainingError(f"evaluation on {evaluate_weeks} weeks has no rows; take at least 1")
    evaluate_from = train_until + timedelta(days=1)
    if evaluate_from > last_day:
        raise TrainingError(f"nothing is left to evaluate on after {train_until}; {data}, so end the training earlier")
    evaluate_until = min(train_until + timedelta(weeks=evaluate_weeks), last_day)
    return Windows(train_from, train_until, evaluate_from, evaluate_until)


@dataclass(frozen=True)
class Labelled:
    """An encoded matrix of shape (n, features) with n labels, 0 or 1."""

    matrix: Matrix
    labels: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over shape, matrix and labels, in hexadecimal."""
        digest = hashlib.sha256(repr(self.matrix.shape).encode())
        digest.update(np.ascontiguousarray(self.matrix, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(self.labels, dtype=np.int8).tobytes())
        return digest.hexdigest()


def check_classes(labelled: Labelled, purpose: str) -> Labelled:
    """Pass data on if something can be learned from it or tried on it.

    Args:
        labelled: the data.
        purpose: `training` or `evaluation`, for the message.

    Raises:
        TrainingError: no rows, or only one of the two labels.
    """
    if not len(labelled):
        raise TrainingError(f"the {purpose} window has no rows; choose other days")
    if (kinds := set(np.unique(labelled.labels).tolist())) != {0, 1}:
        raise TrainingError(
            f"all {len(labelled)} labels of the {purpose} window are {kinds.pop()}; both 0 and 1 are needed, so take more days"
        )
    return labelled


def reference_sample(matrix: NDArray[Any], schema: Schema, rows: int = SAMPLE_ROWS, seed: int = 0) -> Matrix:
    """Rows on which every engine has to agree with the reference; the same rows each time.

    Each nullable feature is missing in one row and all of them are in another, so that no engine is used whose handling of
    missing values was never tried.

    Args:
        matrix: n >= 1 encoded rows.
        schema: their schema.
        rows: wanted rows, more than the number of nullable features.
        seed: of the random choice.

    Returns:
        Shape (rows, features), float32.
    """
    random = np.random.default_rng(seed)
    sample = matrix[random.choice(len(matrix), size=rows, replace=len(matrix) < rows)].astype(np.float32)
    nullable = [index for index, field in enumerate(schema.fields) if field.nullable]
    sample[0, nullable] = np.nan
    for row, column in enumerate(nullable, start=1):
        sample[row, column] = np.nan
    return sample
