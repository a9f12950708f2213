"""Which commit of this project is running."""

from __future__ import annotations

import subprocess
from pathlib import Path

import hotcold

_TIMEOUT_S = 10.0


def read_commit(folder: Path | None = None) -> str:
    """The commit that is checked out.

    Args:
        folder: inside a checkout; None takes the one that this package was imported from.

    Returns:
        40 hexadecimal digits; empty outside a checkout, without git, or before the first commit.
    """
    folder = folder or Path(hotcold.__file__).resolve().parents[1]
    # Only the project's own checkout counts: an installation below somebody else's repository has no commit of ours.
    if not (folder / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--verify", "--quiet", "HEAD"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
