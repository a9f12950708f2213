"""The settings, or one clear line about what is wrong with them; and who is asking."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING

from hotcold.domain.errors import StackError

if TYPE_CHECKING:
    from hotcold.settings import Settings


def load_settings() -> Settings:
    """Settings from the environment and `.env`.

    Raises:
        StackError: a variable has a value that is not allowed.
    """
    from pydantic import ValidationError

    from hotcold.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = "HOTCOLD_" + "_".join(str(part) for part in first["loc"]).upper()
        raise StackError(
            f"{variable} is {first['input']!r}: {first['msg']}; correct it in the environment or in .env"
        ) from error


def user_name() -> str:
    """Who asks, for the audit."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
