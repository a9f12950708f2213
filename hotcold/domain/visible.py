"""Words that come from outside, such as the name of a segment: every character is seen, and none does anything."""

from __future__ import annotations

_LONGEST = 2000


def visible(words: object, longest: int = _LONGEST) -> str:
    r"""The words on one line, with what cannot be seen written out.

    A character that turns the direction of the text, ends it, or is half of one, would change what people read, or could not be
    written to a file at all. It is shown by its number, as `\u202e`.

    Args:
        words: anything; its text is taken.
        longest: characters; what is longer is cut, with an ellipsis at the end.
    """
    line = " ".join(str(words)[: 4 * longest].split())
    shown = "".join(letter if letter.isprintable() else _number(letter) for letter in line)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _number(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
