"""The parity gate on a real node: the same rows from a file and through the edge."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotcold.adapters.package_files import package_dir
from hotcold.adapters.parity_check import check_parity
from hotcold.domain.batch_plan import Columns
from hotcold.domain.gate import Gate, Verdict
from hotcold.domain.package import Manifest
from hotcold.domain.release import Phase
from hotcold.domain.serving import Slot
from tests.fixtures.batch import make_table, write_parquet
from tests.fixtures.data_plane import DataPlane

pytestmark = pytest.mark.e2e


def check(plane: DataPlane, package: Manifest, source: Path | str, answering: Manifest | None = None) -> Gate:
    """Score with the package in the batch, and live with what is in the slot."""
    src = package_dir(package.ref, plane.settings.bento_home)
    return check_parity(
        (answering or package).ref, src, Slot.BLUE.value, [plane.record.edge_url], str(source), Columns("flight_id")
    )


def test_both_paths_agree_on_rows_of_the_batch_and_on_the_reference_sample(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest, tmp_path: Path
) -> None:
    data_plane.promote(small_package)
    source = write_parquet(make_table(500), tmp_path / "in.parquet")
    on_rows = check(data_plane, small_package, source)
    assert (Verdict.SAFE, True) == (on_rows.verdict, f"rows of {source}" in on_rows.observed), on_rows.sentence
    on_sample = check(data_plane, small_package, tmp_path / "gone.parquet")
    assert (Verdict.SAFE, True) == (on_sample.verdict, "the reference sample" in on_sample.observed), on_sample.sentence

    # The slot holds another model than the batch: the very thing that the gate is for.
    disagree = check(data_plane, other_package, source, answering=small_package)
    assert Verdict.HARM is disagree.verdict
    assert "in the batch, a difference of" in disagree.observed
    wrong_package = check(data_plane, other_package, source)
    assert (Verdict.HARM, True) == (wrong_package.verdict, "answered" in wrong_package.observed)
    data_plane.kill("envoy")
    assert Verdict.UNKNOWN is check(data_plane, small_package, source).verdict


def test_a_release_whose_two_paths_disagree_is_rejected_before_any_traffic(
    data_plane: DataPlane, small_package: Manifest, other_package: Manifest
) -> None:
    """A sealed package cannot disagree with itself, so the batch half is given the other package to score with."""
    data_plane.promote(small_package)
    with data_plane.load(small_package.model) as load:
        release = data_plane.release(other_package, scored_by=small_package)
    assert Phase.REJECTED is release.phase
    assert "batch_parity is HARM" in release.reason
    assert "in the batch, a difference of" in release.reason
    assert {small_package.semver} == {exchange.version for exchange in load.results()}
    assert [] == [exchange for exchange in load.results() if exchange.failed]
