"""The verdict on live and batch scores of the same rows: one model must not have two opinions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.package import PARITY_LIMIT, PackageRef

GATE = "batch_parity"


@dataclass(frozen=True, eq=False)
class LiveScores:
    """The answer to some rows of the sample.

    Args:
        first: index of the first row.
        asked: number of rows that were asked for.
        status: HTTP status; 0 if no answer came.
        digest: first 12 hexadecimal digits of the package that answered, empty if it did not say.
        scores: shape (n,); empty if the status is not 200.
        detail: what went wrong, empty if nothing did.
    """

    first: int
    asked: int
    status: int
    digest: str
    scores: NDArray[np.float64]
    detail: str = ""


def judge_parity(package: PackageRef, batch: NDArray[np.floating], live: Sequence[LiveScores], source: str) -> Gate:
    """Compare what the batch gives with what the live endpoint gives.

    Args:
        package: what has to answer.
        batch: scores of the sample's n rows by the cold path, shape (n,).
        live: answers that cover the sample, once for each edge.
        source: where the rows are from, for people.

    Returns:
        HARM if a score differs, another package answered or rows were refused that the batch takes. UNKNOWN if an answer did
        not come, or there was no row: nothing compared is no evidence.
    """
    limit = f"live and batch scores of {package.tag} differ by at most {PARITY_LIMIT:g}"
    worst, seen = 0.0, ""
    for answer in live:
        if answer.status in (0, 502, 503, 504):
            return Gate(GATE, Verdict.UNKNOWN, f"no answer to row {answer.first} of {source}: {answer.detail}", limit)
        wrong = _what_is_wrong(package, answer)
        if wrong:
            return Gate(GATE, Verdict.HARM, f"row {answer.first} of {source}: {wrong}", limit)
        differences = np.abs(answer.scores - batch[answer.first : answer.first + len(answer.scores)])
        row = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
        if not differences[row] <= worst or not seen:
            worst = float(differences[row])
            at = answer.first + row
            seen = f"row {at} of {source} is {answer.scores[row]:.7g} live and {batch[at]:.7g} in the batch"
    if not live or not len(batch):
        return Gate(GATE, Verdict.UNKNOWN, f"no row of {source} was compared", limit)
    if not worst <= PARITY_LIMIT:
        return Gate(GATE, Verdict.HARM, f"{seen}, a difference of {worst:.1e}", limit)
    return Gate(GATE, Verdict.SAFE, f"{len(batch)} rows of {source}, largest difference {worst:.1e}", limit)


def _what_is_wrong(package: PackageRef, answer: LiveScores) -> str:
    if answer.status != 200:
        return f"the live endpoint answered {answer.status}: {answer.detail}"
    if answer.digest != package.digest[:12]:
        return f"package {answer.digest or 'without a name'} answered"
    if len(answer.scores) != answer.asked:
        return f"{len(answer.scores)} scores came back for {answer.asked} rows"
    return ""
