"""Writes a comparison to MLflow: a run with the report, and the verdict at the candidate's version."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from typing import Any

from hotcold.adapters.experiment_run import RunContent, RunKey, open_run, write_content
from hotcold.adapters.mlflow_client import connect, talking
from hotcold.adapters.shadow_page import shadow_page
from hotcold.domain.evidence.finding import Finding
from hotcold.domain.shadow.report import ShadowReport, StageTimes
from hotcold.domain.shadow.report_json import report_document
from hotcold.domain.visible import visible

PAGE_FILE, DOCUMENT_FILE = "report.html", "report.json"
RELEASE_TAG = "hotcold.release"
VERDICT_TAG, REASON_TAG, RUN_TAG = "hotcold.shadow.verdict", "hotcold.shadow.reason", "hotcold.shadow.run"
# MLflow refuses longer values.
_LONGEST_VALUE = 5000
_QUALITY = ("log_loss", "auc", "calibration_error")


class ShadowExperiment:
    """Writes the comparisons of a model to the experiment `<model>-shadow` of one MLflow server or database.

    Args:
        tracking_uri: where MLflow is.
        clock: seconds since the epoch.
    """

    def __init__(self, tracking_uri: str, clock: Callable[[], float] = time.time) -> None:
        self._uri = tracking_uri
        self._clock = clock

    def write(self, report: ShadowReport) -> str:
        """Log a comparison as the run of its release, and tag the candidate's version with the verdict.

        A release that has a run already gets its new numbers and files there. The run is written first: a version that the
        registry lacks does not make it fail.

        Args:
            report: of a comparison, which may still be going on.

        Returns:
            MLflow's id of the run.

        Raises:
            RegistryError: MLflow cannot be reached, refuses, or lacks the candidate's version. A run that was begun and not
                written is marked as failed.
        """
        with talking(self._uri, f"log the comparison of release {report.release} of {report.model}"):
            client = connect(self._uri)
            with open_run(client, _key(report)) as run:
                write_content(client, run, _content(report), self._clock())
        with talking(self._uri, f"tag version {report.candidate.version} of {report.model} with its verdict"):
            self._tag_version(client, run.info.run_id, report)
        return str(run.info.run_id)

    def _tag_version(self, client: Any, run_id: str, report: ShadowReport) -> None:
        tags = {VERDICT_TAG: str(report.verdict), REASON_TAG: visible(report.reason, _LONGEST_VALUE), RUN_TAG: run_id}
        for name, value in tags.items():
            client.set_model_version_tag(report.model, str(report.candidate.version), name, value)


def _key(report: ShadowReport) -> RunKey:
    return RunKey(
        experiment=f"{report.model}-shadow",
        tag=RELEASE_TAG,
        value=report.release,
        name=f"{report.candidate.semver} {report.release}",
        began_s=report.since_s,
        ended_s=report.until_s,
    )


def _content(report: ShadowReport) -> RunContent:
    return RunContent(
        metrics=_metrics(report),
        tags={name: visible(value, _LONGEST_VALUE) for name, value in _tags(report).items()},
        files={
            DOCUMENT_FILE: json.dumps(report_document(report), indent=1, allow_nan=False).encode(),
            PAGE_FILE: shadow_page(report).encode(),
        },
    )


def _metrics(report: ShadowReport) -> dict[str, float]:
    """What is not known, or has no end, is left out: MLflow's charts would show nothing else beside it."""
    metrics: dict[str, float | None] = {
        "pairs": report.pairs,
        "entities": report.entities,
        "agreement_pct": report.agreement_pct,
        "psi": report.drift.psi,
        "ks": report.drift.ks,
        "left_out": sum(report.left_out.values()),
        "segments_harmed": sum(row.stands_out for row in report.segments),
        **{name: value for finding in report.findings for name, value in _of_finding(finding).items()},
        **_of_times("champion", report.champion_times),
        **_of_times("candidate", report.candidate_times),
        **_of_labels(report),
    }
    return {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}


def _of_finding(finding: Finding) -> dict[str, float | None]:
    # MLflow refuses other characters.
    signal = re.sub(r"[^\w\-. /]", "_", finding.signal, flags=re.ASCII)
    return {
        f"{signal}.effect": finding.effect,
        f"{signal}.lower": finding.lower,
        f"{signal}.upper": finding.upper,
        f"{signal}.limit": finding.limit,
        f"{signal}.log_evidence": finding.log_evidence,
        f"{signal}.observations": finding.observations,
    }


def _of_times(side: str, times: tuple[StageTimes, ...]) -> dict[str, float]:
    return {f"{side}.{one.stage}.p99_us": one.p99_us for one in times}


def _of_labels(report: ShadowReport) -> dict[str, float]:
    labels = report.labels
    if labels is None:
        return {}
    sides = (("champion", labels.champion), ("candidate", labels.candidate))
    quality = {f"{name}.{what}": getattr(side, what) for name, side in sides for what in _QUALITY}
    return {"labelled": labels.labelled, "coverage_pct": labels.coverage_pct, **quality}


def _tags(report: ShadowReport) -> dict[str, str]:
    sides = (("champion", report.champion), ("candidate", report.candidate))
    return {
        "hotcold.verdict": str(report.verdict),
        "hotcold.reason": report.reason,
        "hotcold.source": report.source.value,
        RELEASE_TAG: report.release,
        **{f"hotcold.{name}.version": str(package.version) for name, package in sides},
        **{f"hotcold.{name}.semver": package.semver for name, package in sides},
        **{f"hotcold.{name}.digest": package.digest for name, package in sides},
    }
