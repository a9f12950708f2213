"""Verdicts on a slot's answers: smoke tests before traffic, and the probe while the candidate bakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.package import PARITY_LIMIT, PackageRef
from hotcold.domain.serving import SlotStatus


@dataclass(frozen=True)
class Answer:
    """One answer to a request with known scores.

    Args:
        status: HTTP status; 0 if no answer came.
        digest: first 12 hexadecimal digits of the package that answered, empty if it did not say.
        error: largest absolute difference to the expected scores; None if there are no scores to compare.
        elapsed_ms: milliseconds until the answer was there.
        detail: what went wrong, empty if nothing did.
    """

    status: int
    digest: str = ""
    error: float | None = None
    elapsed_ms: float = 0.0
    detail: str = ""

    @property
    def came(self) -> bool:
        """A package answered; a 5xx without a package's name is the edge saying that it found nobody."""
        return self.status != 0 and (self.status < 500 or bool(self.digest))


@dataclass(frozen=True)
class Refusal:
    """One answer to a request that is wrong on purpose."""

    what: str
    status: int


def judge_smoke(package: PackageRef, answers: Sequence[Answer], refusals: Sequence[Refusal]) -> Gate:
    """Smoke tests of a candidate's slot.

    Args:
        package: what has to answer.
        answers: answers to the golden sample.
        refusals: answers to wrong requests; each has to be a 4xx.

    Returns:
        HARM if another package answered, a score is wrong, or a wrong request was not refused. UNKNOWN if nobody answered.
    """
    limit = f"{package.tag} answers every golden row within {PARITY_LIMIT:g}, and refuses wrong requests with a 4xx"
    if wrong := _first_wrong(package, answers):
        return Gate("smoke", Verdict.HARM, wrong, limit)
    if accepted := next((refusal for refusal in refusals if not 400 <= refusal.status < 500), None):
        verdict = Verdict.UNKNOWN if accepted.status in (0, 503) else Verdict.HARM
        return Gate("smoke", verdict, f"{accepted.what} was answered with {accepted.status}", limit)
    if not answers or not refusals or not all(answer.came for answer in answers):
        return Gate("smoke", Verdict.UNKNOWN, "not every request was answered", limit)
    worst = max(answer.error or 0.0 for answer in answers)
    slowest = max(answer.elapsed_ms for answer in answers)
    seen = f"{len(answers)} answers, largest difference {worst:.1e}, slowest {slowest:.1f} ms"
    return Gate("smoke", Verdict.SAFE, f"{seen}; {len(refusals)} wrong requests refused", limit)


def _first_wrong(package: PackageRef, answers: Sequence[Answer]) -> str:
    for answer in answers:
        if not answer.came:
            continue
        if answer.status != 200:
            return f"a golden row was answered with {answer.status}: {answer.detail}"
        if answer.digest != package.digest[:12]:
            return f"package {answer.digest or 'without a name'} answered"
        if answer.error is None or not answer.error <= PARITY_LIMIT:
            return f"a score is off by {answer.error if answer.error is not None else 'an unknown amount'}"
    return ""


def judge_probe(package: PackageRef, recent: Sequence[Answer], patience: int = 3) -> Gate:
    """Golden rows sent through the edge as any consumer would, while the candidate should be answering.

    Args:
        package: what has to answer.
        recent: the latest answers, oldest first.
        patience: failed answers in a row that are HARM; fewer are UNKNOWN, since one request may meet a restart.
    """
    limit = f"{package.tag} answers golden rows at the edge within {PARITY_LIMIT:g}"
    if not recent:
        return Gate("edge_probe", Verdict.UNKNOWN, "no answer yet", limit)
    last = recent[-1]
    if last.status == 200 and last.digest == package.digest[:12]:
        if last.error is not None and last.error <= PARITY_LIMIT:
            return Gate("edge_probe", Verdict.SAFE, f"largest difference {last.error:.1e} in {last.elapsed_ms:.1f} ms", limit)
        return Gate("edge_probe", Verdict.HARM, f"a score is off by {last.error}", limit)
    failed = list(recent[-patience:])
    all_failed = len(failed) == patience and all(answer.status != 200 for answer in failed)
    seen = f"status {last.status} by package {last.digest or 'unknown'} {last.detail}".rstrip()
    return Gate("edge_probe", Verdict.HARM if all_failed else Verdict.UNKNOWN, seen, limit)


def judge_health(slot: SlotStatus | None, wanted: int, restarts_before: int, tolerated_restarts: int = 2) -> Gate:
    """Health of the candidate's replicas.

    Args:
        slot: the candidate's slot; None if no agent reports.
        wanted: replicas that should be ready.
        restarts_before: restarts that the slot counted when the candidate got traffic.
        tolerated_restarts: more restarts than this since then are HARM.
    """
    limit = f"{wanted} replicas ready, at most {tolerated_restarts} restarts"
    if slot is None:
        return Gate("replica_health", Verdict.UNKNOWN, "no agent reports", limit)
    restarts = slot.restarts - restarts_before
    seen = f"{slot.ready} replicas ready, {restarts} restarts"
    if restarts > tolerated_restarts:
        return Gate("replica_health", Verdict.HARM, seen, limit)
    return Gate("replica_health", Verdict.SAFE if slot.ready >= wanted else Verdict.UNKNOWN, seen, limit)
