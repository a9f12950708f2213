"""When the alias `candidate` asks for a promotion: once for each time that it was set, and never for what was taken back."""

from __future__ import annotations

import pytest

from hotcold.domain.alias_watch import OVERTAKEN_S, AliasWatch, Ask, ReleaseHistory, asks_for, sight


def seen(*sights: tuple[int | None, float]) -> AliasWatch:
    """What is known after these sights: version and time."""
    watch = None
    for version, at in sights:
        watch = sight(watch, "m", version, at)
    assert watch is not None
    return watch


def ask(watch: AliasWatch, **history: float | None) -> Ask:
    return asks_for(watch, ReleaseHistory(**history))[0]


def test_a_version_that_was_never_released_is_promoted() -> None:
    assert Ask.PROMOTE is ask(seen((2, 10.0)), champion=1)
    assert Ask.PROMOTE is ask(seen((None, 5.0), (2, 10.0)))


def test_an_alias_that_stays_is_one_setting_and_one_that_was_gone_is_another() -> None:
    first, stayed = seen((2, 10.0)), seen((2, 10.0), (2, 20.0), (2, 30.0))
    again = seen((2, 10.0), (None, 20.0), (2, 30.0))
    assert first.key == stayed.key != again.key
    assert "promote-m-2-10000000" == first.key


def test_an_alias_that_moves_is_another_setting() -> None:
    assert (3, 20.0, 10.0) == (
        (moved := seen((2, 10.0), (3, 20.0))).version,
        moved.set_at,
        moved.free_at,
    )


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ({"champion": 2}, "champion already"),
        ({"under_way": 2}, "is being released"),
        ({"ended_at": 9.0}, "released or evaluated before"),
    ],
)
def test_what_serves_or_is_or_was_released_is_not_promoted(history: dict[str, float], reason: str) -> None:
    verdict, why = asks_for(seen((2, 10.0)), ReleaseHistory(**history))
    assert verdict is Ask.NOTHING
    assert reason in why


def test_while_another_version_is_released_the_next_one_waits() -> None:
    assert Ask.WAIT is ask(seen((3, 10.0)), champion=1, under_way=2)


def test_a_version_that_was_taken_back_is_promoted_again_only_if_the_alias_was_seen_gone_after_that() -> None:
    stayed = seen((None, 5.0), (2, 10.0), (2, 40.0))
    gone_before = seen((2, 10.0), (None, 25.0), (2, 40.0))
    gone_after = seen((2, 10.0), (None, 35.0), (2, 40.0))
    assert [Ask.NOTHING, Ask.NOTHING, Ask.PROMOTE] == [ask(watch, ended_at=30.0) for watch in (stayed, gone_before, gone_after)]


def test_what_was_answered_is_not_asked_again() -> None:
    answered = sight(AliasWatch("m", 2, 10.0, 10.0, answer="run brave-owl promotes it"), "m", 2, 20.0)
    assert (Ask.NOTHING, "run brave-owl promotes it") == asks_for(answered, ReleaseHistory())
    assert Ask.PROMOTE is ask(sight(answered, "m", 3, 30.0))


@pytest.mark.parametrize("late_s", [0.0, 0.001, OVERTAKEN_S])
def test_news_that_were_overtaken_change_nothing(late_s: float) -> None:
    """A webhook that is delivered late, or twice, must not undo what a look at the registry has seen meanwhile."""
    known = seen((2, 500.0), (None, 1000.0))
    assert known == sight(known, "m", 2, 1000.0 - late_s)


def test_a_clock_that_was_set_back_by_an_hour_does_not_blind_it() -> None:
    known = seen((None, 10_000.0))
    assert Ask.PROMOTE is ask(sight(known, "m", 2, 10_000.0 - 3600.0))
