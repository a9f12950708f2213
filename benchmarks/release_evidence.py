"""What a simulated driver knows of live answers: the real counts and gates, seen as late as the real ones are."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from hotcold.domain.canary.counting import Answers, Tally
from hotcold.domain.canary.judgement import decide, edge_errors_test
from hotcold.domain.canary.limits import CanaryLimits
from hotcold.domain.evidence.value_counts import ValueCounts
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.plan import Plan
from hotcold.domain.shadow.counting import mean_of_seconds

# An answer is counted when its second has surely come into the log.
_SETTLED_S = 8.0
_MORE = CanaryLimits()


class Evidence:
    """Of one release, by whoever drives it.

    Args:
        plan: with limits and latency budget.
    """

    def __init__(self, plan: Plan) -> None:
        self._limits = plan.limits
        self._tally = Tally(plan.limits, _MORE, plan.latency_budget_ms * 1000)
        self._test = edge_errors_test(plan.limits)
        self._unread: deque[tuple[float, int, Answers]] = deque()
        self._span = self.requests = 0
        self.looks = 0
        self.restart()

    def restart(self) -> None:
        """A new driver: what the log has is counted again, which comes to the same; what the edge counted is lost."""
        self._failures = ValueCounts()
        self._gates: tuple[Gate, ...] = ()

    def begin_span(self) -> None:
        """The edge has confirmed a share."""
        self._span += 1
        self.requests = 0

    def add(self, answers: Answers, until_s: float, edge_counts: bool) -> None:
        """Answers under a share that the edge has confirmed.

        Args:
            answers: of whole seconds.
            until_s: their end.
            edge_counts: the edge's counters can be read.
        """
        self._unread.append((until_s, self._span, answers))
        if edge_counts:
            failed = mean_of_seconds(answers.second, (~answers.good).astype(np.float64), answers.is_candidate)
            self._failures = self._failures.merge(self._test.count(failed))

    def look(self, now_s: float, readable: bool) -> None:
        """Judge what has settled in the log by now; if nobody can read it, nothing is SAFE meanwhile."""
        if not readable:
            self._gates = tuple(_doubtful(gate) for gate in self._gates)
            return
        while self._unread and self._unread[0][0] <= now_s - _SETTLED_S:
            _, span, answers = self._unread.popleft()
            self._tally.add(answers, {}, {})
            if span == self._span:
                self.requests += int(np.count_nonzero(answers.is_candidate))
        self.looks += 1
        edge = Gate(self._test.signal, self._test.verdict(self._failures))
        self._gates = (edge, *decide(self._tally.counts, self._limits, _MORE))

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Verdicts by the last look."""
        return self._gates


def _doubtful(gate: Gate) -> Gate:
    return replace(gate, verdict=Verdict.UNKNOWN) if gate.verdict is Verdict.SAFE else gate
