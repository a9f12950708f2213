"""Tells people what releases came to, also what nobody told them when it happened."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from hotcold.adapters.notices import notice, send_notice
from hotcold.domain.errors import NoticeError
from hotcold.settings import Settings
from tasks.context import open_database


@task(name="tell people", cache_policy=NO_CACHE, persist_result=False)
def send_notices() -> int:
    """Send what has not been told, oldest first; one that nobody takes stays for the next time. How many were told."""
    settings = Settings()
    database = open_database(settings)
    told = 0
    try:
        for event in database.read_untold():
            document = notice(database.read_release(event.release_id), event)
            send_notice(document, settings.notify_url, settings.root / "notices.jsonl")
            database.mark_told(event.id)
            told += 1
    except NoticeError as error:
        get_run_logger().warning("%s", error)
    finally:
        database.close()
    return told
