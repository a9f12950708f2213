"""Writes a Parquet file as a whole: whoever looks sees all of it, safely on the disk, or nothing."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hotcold.adapters.folder_sync import sync_folder

TEMPORARY, SUFFIX = ".hotcold-", ".parquet"
_ROWS_PER_GROUP = 1 << 17


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table to a file; its folder is made if it is missing.

    Args:
        path: of the file, which is replaced if it is there.
        table: its content.

    Raises:
        OSError: the disk does not take it; everything is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}{SUFFIX}"
    try:
        with temporary.open("wb") as file:
            pq.write_table(table, file, row_group_size=_ROWS_PER_GROUP, compression="zstd", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def delete_unfinished(folder: Path) -> int:
    """Delete what writers that were killed had not finished; nobody may be writing there.

    Returns:
        Number of files.
    """
    left = list(folder.glob(f"{TEMPORARY}*{SUFFIX}"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
