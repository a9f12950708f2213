"""What a comparison says, in whole sentences, for people who were not there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from hotcold.domain.evidence.finding import Finding, number, quantity
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.scoring_progress import describe_seconds
from hotcold.domain.shadow.by_request import FLIPS, tell_by_request
from hotcold.domain.shadow.report import ShadowReport, Source, StageTimes
from hotcold.domain.visible import visible

LOSS = "log_loss"
WHOLE = "total"
LONGEST_NAME = 60
_ORDER = (Verdict.HARM, Verdict.UNKNOWN, Verdict.SAFE)
_NAMED = 5
_LONGEST_REASON = 600
_CLAIMS = (
    "SAFE claims that harm beyond the stated limit is ruled out, HARM claims that harm has been shown, and UNKNOWN claims "
    "nothing: it is never read as SAFE."
)
_ANYTIME = (
    "These levels hold at whatever moment and however often somebody looks (they are anytime-valid), so nothing is spoiled by "
    "looking early or by stopping as soon as there is a verdict."
)
_OBSERVATIONS = (
    "What counts as one observation is an entity, or a closed second, not a request, so a single busy client cannot decide the "
    "outcome; the bounds hold all values that the evidence does not rule out, and more traffic moves them together."
)
_SHOWN_ONLY = (
    "PSI, KS and the pictures of scores and times are shown but decide nothing, and a segment stands out only if its evidence "
    "is strong enough for the number of segments that were looked at."
)


def headline(report: ShadowReport) -> str:
    """The verdict as the heading of a page: one word, and what follows from it."""
    candidate, champion = version_names(report)
    follows = {
        Verdict.SAFE: f"{candidate} may replace {champion}",
        Verdict.HARM: f"{candidate} must not replace {champion}",
        Verdict.UNKNOWN: f"nobody can say yet whether {candidate} may replace {champion}",
    }
    return f"{report.verdict}: {follows[report.verdict]}"


def version_names(report: ShadowReport) -> tuple[str, str]:
    """Candidate and champion, short; with the registry's number where the semantic versions are the same."""
    names = [package.semver for package in (report.candidate, report.champion)]
    if names[0] == names[1]:
        names = [f"{package.semver} (version {package.version})" for package in (report.candidate, report.champion)]
    return names[0], names[1]


def tell_why(report: ShadowReport) -> str:
    """Why the verdict is what it is: the reason, what it rests on, how the checks stand, and what is still needed."""
    parts = (
        _tell_reason(report),
        _tell_basis(report),
        _tell_left_out(report),
        _tell_gates(report),
        _tell_needs(report),
    )
    return " ".join(part for part in parts if part)


def tell_consequences(report: ShadowReport) -> tuple[str, ...]:
    """What it means for those who call the model, for its speed and for its quality; one or two sentences each."""
    parts = (
        _tell_flips(report),
        _tell_scores(report),
        tell_by_request(report),
        _tell_speed(report),
        _tell_labels(report),
        _tell_segments(report),
    )
    return (*(part for part in parts if part), _tell_source(report))


def reading_guide(report: ShadowReport) -> tuple[str, ...]:
    """How to read the report, in five sentences that need no statistics."""
    alphas = sorted({finding.alpha for finding in report.findings})
    levels = " or ".join(f"{number(100 * alpha)} %" for alpha in alphas) or "alpha"
    return (
        _CLAIMS,
        (
            f"Each statistical check is wrong with HARM in at most {levels} of releases without harm, and wrong with SAFE in "
            "at most as many of those with harm at the limit; this holds for each check by itself, so several of them err more "
            "often than one."
        ),
        _ANYTIME,
        _OBSERVATIONS,
        _SHOWN_ONLY,
    )


def order_gates(report: ShadowReport) -> tuple[Gate, ...]:
    """Harm first, then what is unknown; of these, what is required first; otherwise in the order that they came in."""
    return tuple(sorted(report.gates, key=lambda gate: (_ORDER.index(gate.verdict), gate.name not in report.required)))


def order_findings(report: ShadowReport) -> tuple[Finding, ...]:
    """As the gates."""
    return tuple(sorted(report.findings, key=lambda one: (_ORDER.index(one.verdict), one.signal not in report.required)))


def moment(seconds: float) -> str:
    """A time for people, in UTC.

    Args:
        seconds: since the epoch.
    """
    if not math.isfinite(seconds):
        return "unknown"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(microseconds: float) -> str:
    """A latency for people: `820 µs`, `4.2 ms`; also where there was none, or where it is beyond all bins."""
    if math.isnan(microseconds):
        return "none"
    if math.isinf(microseconds):
        return "off the scale"
    return f"{number(microseconds)} µs" if microseconds < 1000 else f"{number(microseconds / 1000)} ms"


def whole_times(times: Iterable[StageTimes]) -> StageTimes | None:
    """Those of whole answers; None if there are none."""
    return next((one for one in times if one.stage == WHOLE), None)


def check_name(name: str) -> str:
    """A gate's name as words."""
    return name.replace("_", " ")


def _tell_reason(report: ShadowReport) -> str:
    """As a sentence, with the names of checks as words."""
    words = visible(report.reason, _LONGEST_REASON).rstrip(".")
    for gate in report.gates:
        words = words.replace(gate.name, check_name(gate.name))
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _tell_gates(report: ShadowReport) -> str:
    by_verdict = {verdict: [gate.name for gate in report.gates if gate.verdict is verdict] for verdict in _ORDER}
    if not report.gates:
        return "Nothing was checked."
    harm, unknown, safe = (by_verdict[verdict] for verdict in _ORDER)
    found = [f"{len(names)} {verdict} ({', '.join(map(check_name, names))})" for verdict, names in by_verdict.items() if names]
    told = f"Of {len(report.gates)} checks, these are the verdicts: {_join(found)}."
    if report.verdict is Verdict.SAFE and unknown and not harm and safe:
        told += " Those that are UNKNOWN claim nothing, and were not required."
    return told


def _tell_basis(report: ShadowReport) -> str:
    if not report.pairs:
        return "There is no request with an answer by both, so nothing is known of the candidate."
    observations = f"which are {report.entities:,} independent observations"
    return f"This rests on {report.pairs:,} requests with an answer by both, {observations}."


def _tell_left_out(report: ShadowReport) -> str:
    left_out = {reason: count for reason, count in report.left_out.items() if count}
    if not left_out:
        return ""
    reason = max(left_out, key=lambda one: (left_out[one], one))
    return f"Rows that could not be compared: {sum(left_out.values()):,}, most of them because of “{visible(reason, 100)}”."


def _tell_needs(report: ShadowReport) -> str:
    """How much is missing, where a required check is UNKNOWN."""
    if report.verdict is not Verdict.UNKNOWN:
        return ""
    waiting = [f for f in report.findings if f.verdict is Verdict.UNKNOWN and f.needed and _is_required(report, f.signal)]
    needs = [f"{number(finding.needed or 0)} more {finding.counted} for {check_name(finding.signal)}" for finding in waiting]
    return f"If things go on as now, it takes about {_join(needs)}." if needs else ""


def _is_required(report: ShadowReport, signal: str) -> bool:
    return not report.required or signal in report.required


def _tell_flips(report: ShadowReport) -> str:
    flips = next((finding for finding in report.findings if finding.signal == FLIPS), None)
    if flips is None or flips.effect is None:
        return "How many decisions would change is not known."
    bounds = f"between {number(flips.lower)} and {number(flips.upper)}"
    price = report.price.sentence if report.price else "What that costs is not known, because no cost per flip was given."
    told = f"Of 1,000 decisions at the threshold {report.threshold:g}, about {number(flips.effect)} would change"
    return f"{told} ({bounds}). {price}"


def _tell_scores(report: ShadowReport) -> str:
    before, after = report.champion_scores, report.candidate_scores
    if not before.total or not after.total:
        return ""
    return f"The mean score is {before.mean:.4g} with the champion and {after.mean:.4g} with the candidate."


def _tell_speed(report: ShadowReport) -> str:
    champion, candidate = whole_times(report.champion_times), whole_times(report.candidate_times)
    if champion is None or candidate is None or math.isnan(champion.p99_us) or math.isnan(candidate.p99_us):
        return ""
    return (
        f"Half of the answers took the champion at most {duration(champion.p50_us)} and the candidate at most "
        f"{duration(candidate.p50_us)}; 99 of 100 took them at most {duration(champion.p99_us)} and "
        f"{duration(candidate.p99_us)}."
    )


def _tell_labels(report: ShadowReport) -> str:
    labels = report.labels
    if labels is None or not labels.labelled:
        return "What happened in the end is not known of any request, so nothing is said about which of the two was right."
    judged = next((finding.verdict for finding in report.findings if finding.signal == LOSS), None)
    check = f"; the check of the difference says {judged}" if judged else ""
    return (
        f"What happened is known of {labels.labelled:,} requests. On these, the log-loss of the candidate is "
        f"{number(labels.candidate.log_loss)} and that of the champion {number(labels.champion.log_loss)}, where less is "
        f"better{check}."
    )


def _tell_segments(report: ShadowReport) -> str:
    if not report.segments:
        return ""
    names = [segment_name(row.segment) for row in report.segments if row.stands_out]
    if not names:
        return f"None of the {len(report.segments)} segments stands out as harmed."
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    stand = "stands" if len(names) == 1 else "stand"
    return f"{len(names)} of {len(report.segments)} segments {stand} out as harmed: {', '.join(names[:_NAMED])}{more}."


def segment_name(segment: str) -> str:
    """A segment for people; requests may have none, and callers may send anything as its name."""
    return f"“{visible(segment, LONGEST_NAME)}”" if segment.strip() else "(no segment)"


def _tell_source(report: ShadowReport) -> str:
    if report.source is Source.REPLAY:
        return (
            "The candidate scored logged requests anew and got no live traffic, so nothing is said about how it behaves under "
            "load."
        )
    return "Callers got the champion's answers only; the candidate's were recorded and thrown away."


def _join(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def described_window(report: ShadowReport) -> str:
    """From when to when, and how long that is."""
    length_s = report.until_s - report.since_s
    length = f", {describe_seconds(length_s)}" if math.isfinite(length_s) and length_s > 0 else ""
    return f"{moment(report.since_s)} to {moment(report.until_s)}{length}"


def described_bounds(finding: Finding) -> str:
    """Effect and bounds in a few characters: `4.1 per 1,000 (3.2 to 5.1)`."""
    if finding.effect is None:
        return "no evidence"
    return f"{quantity(finding.effect, finding.unit)} ({number(finding.lower)} to {number(finding.upper)})"
