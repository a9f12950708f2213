"""Words from outside are shown, and do nothing."""

from __future__ import annotations

import pytest

from hotcold.domain.visible import visible


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("carrier AA", "carrier AA"),
        (" two\nlines\tand  spaces ", "two lines and spaces"),
        ("日本 é 🛫", "日本 é 🛫"),
        ("a\u202eb", "a\\u202eb"),
        ("\x00\x1b[31m", "\\x00\\x1b[31m"),
        ("\ud800", "\\ud800"),
        ("", ""),
        (7, "7"),
    ],
)
def test_every_character_is_seen(words: object, shown: str) -> None:
    assert shown == visible(words)
    assert visible(words).encode().decode() == shown


def test_what_is_too_long_is_cut_and_says_so() -> None:
    assert "xxxx…" == visible("x" * 6, 5)
    assert "xxxxx" == visible("x" * 5, 5)
    assert 10 == len(visible("\x00" * 10**6, 10))
