"""A log segment that is being written: Arrow's IPC stream, one message after the other, each of them whole or not there.

Whoever writes a segment holds its lock, which the kernel lets go of when the process dies: readers know whether more will come.
The file has its name from the moment that it can be read, and keeps it, so that nobody misses it while it is renamed.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

import pyarrow as pa

from hotcold.adapters.folder_sync import sync_folder
from hotcold.domain.prediction import SegmentName

NEW_PREFIX = ".new-"
# What Arrow writes behind the last message of a stream.
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class SegmentFile:
    """An open segment; for one thread at a time.

    Args:
        name: of the segment.
        folder: where it lies.
        handle: open for writing, locked.
        size_bytes: written so far.
    """

    def __init__(self, name: SegmentName, folder: Path, handle: int, size_bytes: int) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self._folder = folder
        self._handle = handle

    @classmethod
    def create(cls, folder: Path, name: SegmentName, schema: pa.Schema) -> Self:
        """Begin a segment, and its folder if that is missing.

        Args:
            folder: of the model's log.
            name: of the segment.
            schema: see `schema_of`.

        Raises:
            OSError: the disk does not take it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        hidden = folder / f"{NEW_PREFIX}{name.file}"
        handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        segment = cls(name, folder, handle, 0)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            segment.append(schema.serialize())
            hidden.rename(folder / name.file)
        except BaseException:
            os.close(handle)
            hidden.unlink(missing_ok=True)
            raise
        return segment

    @property
    def is_gone(self) -> bool:
        """Somebody deleted the file; what is written to it now, nobody will ever read."""
        return os.fstat(self._handle).st_nlink == 0

    def append(self, message: pa.Buffer | bytes) -> None:
        """Write one message.

        Raises:
            OSError: the disk does not take it; the file ends with the message before, and nothing more may be appended.
        """
        content = memoryview(message)
        rest = content
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            # If this fails too, readers find half a message and read up to it.
            with suppress(OSError):
                os.ftruncate(self._handle, self.size_bytes)
            raise
        self.size_bytes += len(content)

    def close(self) -> None:
        """Say that no more will come, wait until all is on the disk, and let go of it.

        Raises:
            OSError: the disk failed; what was appended can be read all the same, unless the machine loses its power.
        """
        try:
            self.append(END_OF_STREAM)
            os.fsync(self._handle)
            sync_folder(self._folder)
        finally:
            os.close(self._handle)

    def abandon(self) -> None:
        """Let go of it as it is."""
        with suppress(OSError):
            os.close(self._handle)
