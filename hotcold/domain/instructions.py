"""What the state machine of a release asks for, as values.

`Deploy`, `Mirror`, `SetSplit`, `Finish`, `PublishScores` and `RetractScores` are rows that are written in the same transaction
as the state; the others are effects outside, each safe to repeat.
"""

from __future__ import annotations

from dataclasses import dataclass

from hotcold.domain.package import PackageRef
from hotcold.domain.serving import Slot


@dataclass(frozen=True)
class Package:
    """Build the package of a registry version."""

    model: str
    version: int


@dataclass(frozen=True)
class Deploy:
    """Give a slot its package; the slot must not hold traffic."""

    slot: Slot
    package: PackageRef
    replicas: int


@dataclass(frozen=True)
class Smoke:
    """Run the smoke tests on the slot's replicas directly."""

    slot: Slot
    package: PackageRef


@dataclass(frozen=True)
class Mirror:
    """Copy this share of the champion's scoring requests to the candidate's slot, in percent; its answers reach nobody."""

    slot: Slot
    share_pct: float


@dataclass(frozen=True)
class SetSplit:
    """Give the candidate's slot this share of the entities, in percent."""

    slot: Slot
    share_pct: int


@dataclass(frozen=True)
class SetStage:
    """Bring the registry's stages and aliases in line with the database."""

    model: str


@dataclass(frozen=True)
class Finish:
    """Close the release.

    Args:
        slot: the candidate's slot.
        champion: slot of the package to go back to; None for a model's first release.
        promoted: the candidate is the champion from now on, and the one before is kept warm.
        retire: the slot holds a candidate that did not make it, so it is emptied.
    """

    slot: Slot
    champion: Slot | None
    promoted: bool
    retire: bool


@dataclass(frozen=True)
class PublishScores:
    """Let readers see the score tables of the new champion, and have scored what it has not scored yet."""

    model: str
    package: PackageRef


@dataclass(frozen=True)
class RetractScores:
    """Take back every score table of a package, let readers see those of the champion, and have them scored anew.

    Args:
        model: registered model name.
        package: whose tables are never shown again unless they are scored again.
        champion: package that serves from now on; None if there is none to go back to.
        reason: why.
    """

    model: str
    package: PackageRef
    champion: PackageRef | None
    reason: str


Instruction = Package | Deploy | Smoke | Mirror | SetSplit | SetStage | Finish | PublishScores | RetractScores
