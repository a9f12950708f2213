"""The webhook's secrets: made once, and readable for nobody else."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hotcold.adapters.webhook_secrets import WebhookSecrets, webhook_secrets
from hotcold.domain.errors import StackError
from hotcold.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "var")


def file(settings: Settings) -> Path:
    (path,) = settings.secret_dir.iterdir()
    return path


def test_they_are_made_once_even_by_many_at_once(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: webhook_secrets(settings), range(32)))
    assert {webhook_secrets(settings)} == made


def test_only_the_user_may_read_them(settings: Settings) -> None:
    webhook_secrets(settings)
    assert (0o700, 0o600) == tuple(stat.S_IMODE(path.stat().st_mode) for path in (settings.secret_dir, file(settings)))
    file(settings).chmod(0o640)
    with pytest.raises(StackError, match=r"may be read by others \(mode 640\).*chmod 600"):
        webhook_secrets(settings)


def test_mlflow_takes_the_encryption_key(settings: Settings) -> None:
    from cryptography.fernet import Fernet

    assert b"x" == (fernet := Fernet(webhook_secrets(settings).encryption_key)).decrypt(fernet.encrypt(b"x"))


def test_they_are_in_no_message(settings: Settings) -> None:
    made = webhook_secrets(settings)
    assert made.secret not in repr(made) and made.encryption_key not in repr(made)
    assert made != WebhookSecrets("", "")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"secret": "x"}'])
def test_a_damaged_file_is_named_with_the_way_out(settings: Settings, content: str) -> None:
    webhook_secrets(settings)
    file(settings).write_text(content)
    with pytest.raises(StackError, match="is damaged; delete it"):
        webhook_secrets(settings)
