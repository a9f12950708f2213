"""What a model's joins remember: where labels came from last, and which files need not be read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import xxhash

from hotcold.adapters.locks import hold_file
from hotcold.adapters.whole_file import replace_file
from hotcold.domain.batch_plan import InputFile
from hotcold.domain.errors import LabelError
from hotcold.domain.label_source import LabelSource

STATE_FILE, LOCK_FILE = "STATE.json", ".join.lock"
_LAYOUT = 1


@dataclass(frozen=True)
class FileState:
    """How far one file is.

    Args:
        seen_s: when it was first seen, seconds since the epoch.
        is_done: it need not be read again.
    """

    seen_s: float
    is_done: bool = False


@dataclass(frozen=True)
class LabelState:
    """What is remembered of a model.

    Args:
        source: where its labels came from last; None if nobody said that a scheduled run is to take them.
        files: by `file_key`.
    """

    source: LabelSource | None = None
    files: Mapping[str, FileState] = field(default_factory=dict)

    def of(self, source: LabelSource, file: InputFile, now_s: float) -> FileState:
        """How far a file is; one that was not seen before is seen now."""
        return self.files.get(file_key(source, file)) or FileState(now_s)

    def with_files(self, files: Mapping[str, FileState], oldest_s: float) -> LabelState:
        """With these files, and without those that were first seen before and are none of them."""
        kept = {key: state for key, state in self.files.items() if state.seen_s >= oldest_s}
        return replace(self, files={**kept, **files})


def file_key(source: LabelSource, file: InputFile) -> str:
    """Names a file as it is now, and what its columns mean."""
    return xxhash.xxh3_128_hexdigest(orjson.dumps([file.url, file.size_bytes, file.version, *source.meaning]))


@contextmanager
def hold_labels(folder: Path) -> Iterator[None]:
    """Hold the lock of a model's labels: one join at a time.

    Raises:
        LabelError: another one is under way.
    """
    with hold_file(folder / LOCK_FILE, 0.0) as is_held:
        if not is_held:
            raise LabelError(f"another run joins labels of {folder.name}; wait for it to end, or cancel it in the Prefect UI")
        yield


def read_state(folder: Path) -> LabelState:
    """What is remembered; nothing if nothing was ever joined.

    Raises:
        LabelError: the file is damaged.
    """
    path = folder / STATE_FILE
    try:
        document = orjson.loads(path.read_bytes())
        if document["layout"] != _LAYOUT:
            raise LabelError(f"{path} has layout {document['layout']!r}; known is {_LAYOUT}, so use the hotcold that wrote it")
        source = LabelSource.from_json(document["source"]) if document["source"] else None
        return LabelState(source, {key: FileState(float(seen), bool(done)) for key, (seen, done) in document["files"].items()})
    except FileNotFoundError:
        return LabelState()
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabelError(
            f"{path} is damaged ({error}); delete it and name the labels again with labels_url: no label is joined twice"
        ) from error


def write_state(folder: Path, state: LabelState) -> None:
    """Remember it.

    Raises:
        OSError: the disk does not take it; what was remembered still is.
    """
    files = {key: [one.seen_s, one.is_done] for key, one in state.files.items()}
    source = state.source.to_json() if state.source else None
    with replace_file(folder / STATE_FILE) as file:
        file.write(orjson.dumps({"layout": _LAYOUT, "source": source, "files": files}, option=orjson.OPT_INDENT_2))


def models_with_labels(root: Path) -> list[str]:
    """Models that have joined labels, or a source of them.

    Args:
        root: folder of all models' labels.
    """
    return sorted(path.name for path in root.glob("*") if path.is_dir())
