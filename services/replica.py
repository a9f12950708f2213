"""One replica: `python -m services.replica --port N`, started in the `src` folder of a package.

Exit codes: 0 after SIGTERM, 78 if the package can never be served (the last line on stderr says why), others if something else
went wrong and starting again may help.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from hotcold.domain.errors import PackageError

REFUSED_EXIT_CODE = 78
REFUSAL_VARIABLE = "HOTCOLD_REFUSAL_FILE"
# Longer than the edge keeps an idle connection, or a request could meet one that is just being closed.
_KEEP_ALIVE_S = 120


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM, then finish what is under way.

    Args:
        arguments: command line without the program's name; None takes the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m services.replica", description="Serve the package of this folder.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _exit_cleanly)
    # Installed libraries have their byte code beside them; looked for elsewhere, it would be made anew at each start, which
    # takes two seconds. The package itself stays as it is.
    sys.pycache_prefix, sys.dont_write_bytecode = None, True
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _open_or_refuse()
    _serve(options.host, options.port)


def _exit_cleanly(_signum: int, _frame: FrameType | None) -> NoReturn:
    # Before the server runs this ends the process; afterwards the server raises the signal once more when it is done.
    sys.exit(0)


def _open_or_refuse() -> None:
    try:
        from services.serving import served_package

        served_package()
    except PackageError as error:
        reason = " ".join(str(error).split())
        if path := os.environ.get(REFUSAL_VARIABLE):
            Path(path).write_text(reason)
        sys.stderr.write(f"PACKAGE REFUSED: {reason}\n")
        sys.exit(REFUSED_EXIT_CODE)


def _serve(host: str, port: int) -> None:
    import uvicorn

    from services.scorer import Scorer

    config = uvicorn.Config(
        Scorer.to_asgi(),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
