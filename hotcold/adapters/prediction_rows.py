"""Scores of the prediction log row by row: what is compared between champion and shadow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def score_rows(table: pa.Table, columns: Sequence[str] = ()) -> pa.Table:
    """One row for each score of each request; requests without scores have none.

    Args:
        table: requests with `request_id` and `scores`.
        columns: more of its columns to be repeated for each score.

    Returns:
        `request_id`; `row`, the place within the request, int32; `score`, float32; and the columns.
    """
    scores = table["scores"].combine_chunks()
    request = pc.list_parent_indices(scores).cast(pa.int64())
    indices = request.to_numpy()
    lengths = pc.fill_null(pc.list_value_length(scores), 0).to_numpy(zero_copy_only=False)
    begins = np.cumsum(lengths) - lengths
    rows = (np.arange(len(indices)) - begins[indices]).astype(np.int32)
    repeated = table.select(["request_id", *columns]).take(request)
    return repeated.add_column(1, "row", pa.array(rows)).add_column(2, "score", pc.list_flatten(scores))
