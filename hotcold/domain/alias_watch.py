"""When the alias `candidate` of a registered model asks for a promotion, from what was seen of it and of the releases.

MLflow does not tell when an alias was set, and hotcold moves this one itself: it names a version while its release is under
way, and is taken away when that has ended. So what is remembered is what was seen: which version carried the alias, and when
it was last seen that this version did not. A version that was released before is released again only if, after that release
had ended, it was seen without the alias, and then with it: somebody set it anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

ALIAS = "candidate"
# News that are older than what is known by up to this much were overtaken on their way; by more, a clock was set back.
OVERTAKEN_S = 600.0


@dataclass(frozen=True)
class AliasWatch:
    """What was last seen of the alias of one model. Times are in seconds since the epoch.

    Args:
        model: registered model name.
        version: version that carries the alias; None if none does.
        seen_at: when that was last seen.
        set_at: when this version was first seen with the alias; with model and version it names one setting of the alias.
        free_at: when it was last seen that this version did not carry the alias; 0: never.
        answer: what was made of this setting: the run that was started, or why none was; empty while that is open.
    """

    model: str
    version: int | None
    seen_at: float
    set_at: float
    free_at: float = 0.0
    answer: str = ""

    @property
    def key(self) -> str:
        """Names this setting of the alias, for whoever is to do something for it only once."""
        return f"promote-{self.model}-{self.version}-{round(self.set_at * 1e6)}"


@dataclass(frozen=True)
class ReleaseHistory:
    """What the release database knows of a model and of the version that carries the alias.

    Args:
        champion: version that serves; None if none does.
        under_way: version of the release under way; None if none is.
        ended_at: when the last release of the version with the alias ended, seconds since the epoch; None if it had none.
    """

    champion: int | None = None
    under_way: int | None = None
    ended_at: float | None = None


class Ask(StrEnum):
    """What a setting of the alias asks for."""

    PROMOTE = "promote"
    WAIT = "wait"
    NOTHING = "nothing"


def sight(known: AliasWatch | None, model: str, version: int | None, at: float) -> AliasWatch:
    """Add one sight of the alias to what is known of it.

    Args:
        known: from before; None for a model that was never looked at.
        model: registered model name.
        version: version that carried the alias; None if none did.
        at: when that was so, seconds since the epoch; if in doubt, earlier.

    Returns:
        What is known now; unchanged where something newer is known already.
    """
    if known is None:
        return AliasWatch(model, version, seen_at=at, set_at=at)
    if 0 <= known.seen_at - at <= OVERTAKEN_S:
        return known
    if version == known.version:
        return replace(known, seen_at=at)
    return AliasWatch(model, version, seen_at=at, set_at=at, free_at=known.seen_at)


def asks_for(watch: AliasWatch, history: ReleaseHistory) -> tuple[Ask, str]:
    """What a setting of the alias asks for now.

    Args:
        watch: what is known of the alias.
        history: what is known of the model's releases.

    Returns:
        What to do, and why, as one clause for people.
    """
    if watch.version is None or watch.answer:
        return Ask.NOTHING, watch.answer or "no version carries the alias"
    if reason := _is_known(watch, history):
        return Ask.NOTHING, f"version {watch.version} {reason}"
    if history.under_way is not None:
        return Ask.WAIT, f"the release of version {history.under_way} has to end first"
    return Ask.PROMOTE, f"version {watch.version} was given the alias"


def _is_known(watch: AliasWatch, history: ReleaseHistory) -> str:
    """Why the version needs no promotion, or may have none; empty if neither is so."""
    if watch.version == history.champion:
        return "is the champion already"
    if watch.version == history.under_way:
        return "is being released"
    if history.ended_at is not None and history.ended_at >= watch.free_at:
        return "was released or evaluated before; to release it again, remove the alias and set it anew"
    return ""
