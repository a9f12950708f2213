"""Runs a Prefect command as soon as the server can take it: `python -m hotcold.adapters.prefect_launch URL COMMAND …`.

Most of a Prefect command's time goes into imports. Done here while the server is still starting, they cost nothing; and the
supervisor need not restart a worker again and again until its server is there.
"""

from __future__ import annotations

import importlib
import sys
import time
import urllib.error
import urllib.request

_POLL_S = 0.1
_ANSWER_TIMEOUT_S = 5.0


def main(arguments: list[str]) -> None:
    """Import what the command needs, wait for the URL to answer 200, then be the command.

    Args:
        arguments: the URL, names of modules to import meanwhile, `--`, and the command as one would give it to `prefect`.
    """
    url, *rest = arguments
    separator = rest.index("--")
    for module in ("prefect.main", "prefect.cli", "prefect.workers.process", *rest[:separator]):
        importlib.import_module(module)
    while not _answers(url):
        time.sleep(_POLL_S)
    from prefect.cli import app

    # Prefect's command line reads its arguments from here, as a console script does.
    sys.argv = ["prefect", *rest[separator + 1 :]]
    app()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_TIMEOUT_S) as answer:  # noqa: S310  # the stack's own http URL
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
