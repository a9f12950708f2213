"""Tells people what releases came to, also what nobody told them when it happened."""

import logging

from hotcold.adapters.notices import notice, send_notice
from hotcold.domain.errors import HotcoldError
from hotcold.settings import Settings
from tasks.context import open_database

LoggerOrAdapter = logging.Logger | logging.LoggerAdapter[logging.Logger]


def tell_people(settings: Settings, logger: LoggerOrAdapter) -> int:
    """Send what has not been told, oldest first; what nobody takes stays for the next time.

    No task: these cannot run while their flow run waits for a person, which is when people have to be told.

    Args:
        settings: where the database and the webhook are.
        logger: takes what went wrong.

    Returns:
        How many were told.
    """
    told = 0
    try:
        database = open_database(settings)
        try:
            for event in database.read_untold():
                document = notice(database.read_release(event.release_id), event)
                send_notice(document, settings.notify_url, settings.root / "notices.jsonl")
                database.mark_told(event.id)
                told += 1
        finally:
            database.close()
    except HotcoldError as error:
        logger.warning("people are told later: %s", error)
    return told
