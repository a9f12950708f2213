"""Turn closed segments of the prediction log into Parquet, and delete old answers; runs on schedule."""

from prefect import flow

from hotcold.adapters.prediction_segments import list_models
from hotcold.settings import Settings
from tasks.predictions import compact_log


@flow(name="compact-predictions", persist_result=False)
def compact_predictions(older_than_s: float = 600.0) -> int:
    """Compact the prediction log of every model.

    Args:
        older_than_s: log segments that were begun later stay as they are.

    Returns:
        Rows that went into archives.
    """
    return sum(compact_log(model, older_than_s) for model in list_models(Settings().prediction_dir))
