"""What a join of labels shows of itself: one table in the Prefect UI."""

from typing import Any

from prefect.artifacts import create_table_artifact

from hotcold.domain.label_counts import DayCoverage, LabelJoin, total_coverage

_DELAYS = (0.5, 0.95)


def publish_label_report(model: str, done: LabelJoin, days: tuple[DayCoverage, ...]) -> None:
    """One table: what was joined, and what share of the answers has a label.

    Args:
        model: registered model name.
        done: what this run did.
        days: coverage by day.
    """
    total = total_coverage(days)
    share = "no answers yet" if total.pct is None else f"{total.pct:.1f} % of the answers of {total.day} have a label"
    create_table_artifact(
        key=f"labels-{model}",
        description=f"Labels of {model}: {done.counts.joined} joined, {share}",
        table=[*_run_rows(done), *_coverage_rows(total), *(_day_row(day) for day in days)],
    )


def _run_rows(done: LabelJoin) -> list[dict[str, Any]]:
    counts = done.counts
    return [
        _row("joined", counts.joined, "requests that have a label now and had none"),
        _row("unknown", counts.unknown, "rows whose request is not in the log, or not yet; tried again for a while"),
        _row("repeated", counts.repeated, "labels that say what another one of this run says"),
        _row("known", counts.known, "requests that had the same label from an earlier run"),
        _row("contradicting", counts.contradicting, "requests with different labels; none of these is used"),
        _row("invalid", counts.unusable, "; ".join(f"{rows} rows: {why}" for why, rows in counts.invalid.items())),
        _row("early", counts.early, "joined labels that were known before the request arrived: clocks differ"),
        _row("rows", counts.rows, "rows that were read"),
        _row("files", done.files, f"{done.files_done} of them are done"),
        *(_row("unreadable file", url, why) for url, why in done.problems.items()),
    ]


def _coverage_rows(total: DayCoverage) -> list[dict[str, Any]]:
    quantiles = {share: total.delays.quantile(share) for share in _DELAYS} if total.delays.total else {}
    return [
        _row("coverage (%)", "" if total.pct is None else round(total.pct, 2), f"answers of {total.day or 'no day'}"),
        _row("labelled", total.labelled, "answers with a label"),
        _row("served", total.served, "answers that consumers got"),
        _row("left out", total.contradicting, "requests of these days whose labels contradict each other"),
        *(
            _row(f"delay p{share * 100:.0f} (s)", float(f"{seconds:.3g}"), "from the request until its label was known")
            for share, seconds in quantiles.items()
        ),
    ]


def _day_row(day: DayCoverage) -> dict[str, Any]:
    value = "" if day.pct is None else round(day.pct, 2)
    return _row(f"coverage (%) {day.day}", value, f"{day.labelled} of {day.served} answers")


def _row(measure: str, value: Any, meaning: str) -> dict[str, Any]:
    return {"measure": measure, "value": value, "meaning": meaning}
