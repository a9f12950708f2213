"""Writes a file as a whole: whoever looks sees all of it, safely on the disk, or what was there before."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from hotcold.adapters.folder_sync import sync_folder

TEMPORARY = ".hotcold-"
_ROWS_PER_GROUP = 1 << 17


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Write what is to stand in a file; it does when the block has ended without an error. Its folder is made if need be.

    Raises:
        OSError: the disk does not take it; everything is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table to a Parquet file, with checksums.

    Args:
        path: of the file, which is replaced if it is there.
        table: its content.

    Raises:
        OSError: the disk does not take it; everything is as it was.
    """
    with replace_file(path) as file:
        pq.write_table(table, file, row_group_size=_ROWS_PER_GROUP, compression="zstd", write_page_checksum=True)


def delete_unfinished(folder: Path) -> int:
    """Delete what writers that were killed had not finished; nobody may be writing there.

    Returns:
        Number of files.
    """
    left = list(folder.glob(f"{TEMPORARY}*"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
