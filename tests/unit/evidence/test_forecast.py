import math

import pytest

from hotcold.domain.errors import EvidenceError
from hotcold.domain.evidence.arguments import as_count, read_keys, require_share, threshold
from hotcold.domain.evidence.crossing import last_true, last_true_ratio
from hotcold.domain.evidence.forecast import first_decisive, observations_needed


class TestObservationsNeeded:
    def test_it_is_what_is_missing_of_the_first_multiple_that_decides(self) -> None:
        needed = observations_needed(lambda times: times >= 3.7, seen=100)
        assert needed is not None
        assert 270 <= needed <= 274

    def test_nothing_more_is_needed_where_it_is_decided(self) -> None:
        assert 0 == observations_needed(lambda _: True, seen=5)

    def test_from_nothing_nothing_can_be_said(self) -> None:
        assert None is observations_needed(lambda _: True, seen=0)

    def test_what_never_decides_has_no_forecast(self) -> None:
        assert None is observations_needed(lambda _: False, seen=100)
        assert None is observations_needed(lambda times: times > 100_000, seen=100)


class TestFirstDecisive:
    @pytest.mark.parametrize("line", [1, 7, 1234, 5_000_000])
    def test_it_is_the_number_at_which_it_decides(self, line: int) -> None:
        found = first_decisive(lambda observations: observations >= line)
        assert found is not None
        assert line <= found <= 1.01 * line + 1

    def test_beyond_a_billion_there_is_none(self) -> None:
        assert None is first_decisive(lambda observations: observations > 2e9)


class TestLastTrue:
    def test_it_is_on_the_side_where_it_still_holds(self) -> None:
        found = last_true(lambda value: value < 0.3, 0.0, 1.0)
        assert 0.3 - 1e-12 < found < 0.3

    def test_where_it_holds_nowhere_or_everywhere_the_ends_are_given(self) -> None:
        assert 0.0 == last_true(lambda _: False, 0.0, 1.0)
        assert 1.0 == last_true(lambda _: True, 0.0, 1.0)

    def test_ratios_are_searched_on_their_logarithm(self) -> None:
        assert last_true_ratio(lambda ratio: ratio < 1e-3) == pytest.approx(1e-3)
        assert 0.0 == last_true_ratio(lambda _: False)


class TestArguments:
    @pytest.mark.parametrize("value", [-1, 1.0, "1", None, True])
    def test_only_integers_from_zero_are_counts(self, value: object) -> None:
        with pytest.raises(EvidenceError, match=r"failures is .*; allowed is an integer from 0"):
            as_count("failures", value)

    @pytest.mark.parametrize("value", [0.0, 1.0, -0.1, math.nan, math.inf])
    def test_only_what_is_between_is_a_share(self, value: float) -> None:
        with pytest.raises(EvidenceError, match="more than 0, less than 1"):
            require_share("allowed", value)

    def test_a_document_has_exactly_its_keys(self) -> None:
        assert (1, 2) == read_keys({"b": 2, "a": 1}, ("a", "b"), "counts")
        with pytest.raises(EvidenceError, match="keys of counts is a; allowed is a, b"):
            read_keys({"a": 1}, ("a", "b"), "counts")
        with pytest.raises(EvidenceError, match="an object"):
            read_keys([1], ("a",), "counts")  # type: ignore[arg-type]

    def test_the_threshold_is_the_log_of_one_over_alpha(self) -> None:
        assert threshold(0.05) == pytest.approx(math.log(20))
