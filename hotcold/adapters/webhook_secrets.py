"""Secrets of MLflow's webhook: made once, kept below home in a file that only its user can read."""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hotcold.domain.errors import StackError
from hotcold.settings import Settings

_FILE = "registry-webhook.json"
_KEY_BYTES = 32


@dataclass(frozen=True)
class WebhookSecrets:
    """What MLflow and the receiver share, and nobody else.

    Args:
        secret: MLflow signs what it sends with it.
        encryption_key: MLflow encrypts the secret with it in its own database; without it, it would forget the secret with
            its next start.
    """

    secret: str = field(repr=False)
    encryption_key: str = field(repr=False)


def webhook_secrets(settings: Settings) -> WebhookSecrets:
    """The secrets of this installation; made with the first call, of two at once by one of them.

    Raises:
        StackError: the file cannot be read or written, is damaged, or others may read it.
    """
    path = settings.secret_dir / _FILE
    try:
        if not path.exists():
            _make(path)
        _refuse_readers(path)
        return WebhookSecrets(**json.loads(path.read_bytes()))
    except OSError as error:
        raise StackError(f"cannot use {path}: {error.strerror}; make it readable for the user of hotcold alone") from error
    except (ValueError, TypeError) as error:
        raise StackError(
            f"{path} is damaged; delete it, and the webhooks of hotcold in MLflow, then run `hotcold down` and `hotcold up`"
        ) from error


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A Fernet key, as MLflow wants it, is 32 random bytes in the alphabet for URLs.
    made = WebhookSecrets(secrets.token_urlsafe(_KEY_BYTES), base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode())
    # mkstemp makes files that nobody else can open.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(made), file)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename this never replaces what somebody else has made meanwhile.
        os.link(name, path)
    except FileExistsError:
        return
    finally:
        Path(name).unlink(missing_ok=True)


def _refuse_readers(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise StackError(f"{path} may be read by others (mode {mode:o}); allowed is 600: `chmod 600 {path}`")
