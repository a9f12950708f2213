"""The folder below which every state of an installation lies: made, writable, with room."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from hotcold.domain.errors import StackError
from hotcold.settings import Settings

_NEEDED_BYTES = 200 * 1024 * 1024
_FOLDERS = ("db", "prefect", "mlflow", "bentoml", "edge", "log", "run")


def prepare_home(settings: Settings) -> None:
    """Make the folders.

    Raises:
        StackError: the home is a file, cannot be written, or its disk is full.
    """
    root = settings.root
    try:
        for name in _FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.run_dir) as probe:
            probe.write(b"room")
        free_bytes = shutil.disk_usage(root).free
    except OSError as error:
        raise StackError(_explain(root, error)) from error
    if free_bytes < _NEEDED_BYTES:
        raise StackError(
            f"the disk of {root} is full: {free_bytes // 2**20} MiB are free, {_NEEDED_BYTES // 2**20} MiB are needed; "
            "make room, or set HOTCOLD_HOME to a folder on another disk"
        )


def rotate_logs(settings: Settings) -> None:
    """Keep the logs of the stack before as `<name>.log.1`, so that a log tells one story."""
    for log in settings.log_dir.glob("*.log"):
        log.replace(log.with_name(f"{log.name}.1"))


def _explain(root: Path, error: OSError) -> str:
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        seen = f"{error.filename or root} is a file; hotcold needs a folder there"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        seen = f"{root} cannot be written ({error.strerror})"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        seen = f"the disk of {root} is full ({error.strerror}); make room"
    else:
        seen = f"{root} cannot be used ({error.strerror})"
    return f"{seen}, or set HOTCOLD_HOME to another folder"
