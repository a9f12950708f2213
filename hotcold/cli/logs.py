"""`hotcold logs`: what the processes wrote."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hotcold.cli.configuration import load_settings
from hotcold.domain.errors import StackError

_POLL_S = 0.2

Name = Annotated[str, typer.Argument(help="Process, for instance agent or prefect-server; empty: all of them.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")]
Lines = Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines from the end of each log.")]


def logs(name: Name = "", follow: Follow = False, lines: Lines = 50) -> None:
    """Show the logs of the stack, or of one of its processes."""
    from hotcold.adapters.stack_start import last_lines

    folder = load_settings().log_dir
    files = _log_files(folder, name)
    for file in files:
        for line in last_lines(file, lines):
            _show(file, line, alone=bool(name))
    if follow:
        _follow(folder, name, files)


def _log_files(folder: Path, name: str) -> list[Path]:
    found = sorted(folder.glob("*.log"))
    if not found:
        raise StackError(f"there are no logs in {folder}; start the stack with `hotcold up`")
    chosen = [file for file in found if name in ("", file.stem)]
    if not chosen:
        raise StackError(f"there is no log of {name!r}; there are logs of {', '.join(file.stem for file in found)}")
    return chosen


def _show(file: Path, line: str, alone: bool) -> None:
    typer.echo(line if alone else f"{file.stem:<15} | {line}")


def _follow(folder: Path, name: str, files: list[Path]) -> None:
    """Until the user ends it. A log that was replaced by a new one is read from its start."""
    positions = {file: (file.stat().st_ino, file.stat().st_size) for file in files}
    while True:
        for file in sorted(folder.glob("*.log")):
            if name in ("", file.stem):
                positions[file] = _show_new(file, positions.get(file, (0, 0)), alone=bool(name))
        time.sleep(_POLL_S)


def _show_new(file: Path, position: tuple[int, int], alone: bool) -> tuple[int, int]:
    inode, offset = position
    try:
        with file.open("rb") as stream:
            found = file.stat()
            stream.seek(offset if found.st_ino == inode and found.st_size >= offset else 0)
            for line in stream:
                _show(file, line.decode(errors="replace").rstrip("\n"), alone)
            return found.st_ino, stream.tell()
    except FileNotFoundError:
        return 0, 0
