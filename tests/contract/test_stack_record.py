"""The file that says where the stack listens."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hotcold.adapters.stack_record import StackRecord, read_stack, remove_stack, stack_file, write_stack
from hotcold.domain.errors import StackError
from hotcold.settings import Settings

RECORD = StackRecord(
    edge_url="http://127.0.0.1:8080",
    edge_port=8080,
    admin_port=9901,
    prefect_port=4200,
    mlflow_port=5000,
    prefect_api_url="http://127.0.0.1:4200/api",
    mlflow_url="http://127.0.0.1:5000",
    supervisor_pid=17,
    supervisor_created=1.5,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "var")


def test_what_was_written_is_read(settings: Settings) -> None:
    write_stack(settings, RECORD)
    assert RECORD == read_stack(settings)


def test_without_a_record_the_way_to_one_is_told(settings: Settings) -> None:
    with pytest.raises(StackError, match="start it with `hotcold up`"):
        read_stack(settings)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"edge_url": "x"}', "\x00"])
def test_a_broken_record_is_an_error_that_names_the_way_out(settings: Settings, content: str) -> None:
    write_stack(settings, RECORD)
    stack_file(settings).write_text(content)
    with pytest.raises(StackError, match="run `hotcold down`, then `hotcold up`"):
        read_stack(settings)


def test_a_reader_never_sees_half_a_record(settings: Settings) -> None:
    write_stack(settings, RECORD)
    done = threading.Event()

    def write() -> None:
        for pid in range(300):
            write_stack(settings, replace(RECORD, supervisor_pid=pid))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert "http://127.0.0.1:8080" == read_stack(settings).edge_url
    writer.join()
    assert [stack_file(settings)] == list(settings.run_dir.iterdir())


def test_removing_twice_is_fine(settings: Settings) -> None:
    write_stack(settings, RECORD)
    remove_stack(settings)
    remove_stack(settings)
    with pytest.raises(StackError):
        read_stack(settings)


def test_a_folder_that_is_a_file_is_a_clear_error(settings: Settings) -> None:
    settings.root.write_text("not a folder")
    with pytest.raises(StackError, match=r"cannot write .*set HOTCOLD_HOME"):
        write_stack(settings, RECORD)
