"""A join that is killed anywhere and run again: each label is there once, and nothing half written is ever seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hotcold.adapters.label_state import read_state
from hotcold.adapters.whole_file import TEMPORARY
from hotcold.domain.label_counts import LabelCounts
from tests.fixtures.labels import LabelScene
from tests.fixtures.prediction_logs import ROOT, START_S, answer, write_segment

NOW_S = START_S + 3600.0
WANTED = {"w1-0": 1.0, "w1-1": 0.0, "w1-3": 1.0}

# Joins, and kills itself at the nth time that it is about to open, rename or delete a file of the label store.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.fixtures.labels import LabelScene

folder, now_s, left = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
scene = LabelScene(folder)

def watch(event, arguments):
    global left
    if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(str(scene.store.folder.parent)):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
scene.join(now_s=now_s)
"""


def prepare(folder: Path) -> LabelScene:
    """One label is joined already, one belongs to answers that are too old; in the new file, one contradicts itself."""
    scene = LabelScene(folder)
    write_segment(scene.log, [[answer(0, "old", at_s=START_S - 40 * 86_400.0)]], "old", started_s=START_S - 40 * 86_400.0)
    write_segment(scene.log, [[answer(number, at_s=START_S + number) for number in range(4)]])
    scene.write("a.parquet", id=["old-0"], late=[1])
    scene.join(now_s=START_S - 40 * 86_400.0)
    scene.write("b.parquet", id=["w1-0"], late=[1])
    scene.join(now_s=START_S + 60)
    scene.write("c.parquet", id=["w1-0", "w1-1", "w1-2", "w1-2", "w1-3"], late=[1, 0, 1, 0, 1])
    return scene


def join_killed_at(scene: LabelScene, folder: Path, event: int) -> bool:
    """Whether it was killed, and not done before."""
    command = [sys.executable, "-c", KILLED, str(folder), str(NOW_S), str(event)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


@pytest.mark.slow
def test_killed_at_every_step_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    event, killed = 0, True
    while killed:
        folder = tmp_path / str(event)
        scene = prepare(folder)
        killed = join_killed_at(scene, folder, event)
        assert scene.labels().items() >= {"w1-0": 1.0}.items() and {} == scene.store.unreadable, event
        # What is remembered can be read, and a file is not taken for done whose labels are not there.
        is_done = sum(one.is_done for one in read_state(scene.store.folder).files.values())
        assert is_done < 3 or scene.labels() == WANTED, event
        counts = scene.join(now_s=NOW_S).counts
        assert (0, WANTED, 1) == (counts.unknown, scene.labels(), scene.store.contradicting), event
        claims = [ident for _, table in scene.store.claims(0, NOW_S) for ident in table["request_id"].to_pylist()]
        assert ["w1-0", "w1-1", "w1-2", "w1-2", "w1-3"] == sorted(claims), event
        assert [] == [*scene.store.folder.glob(f"{TEMPORARY}*")], event
        assert LabelCounts() == scene.join(now_s=NOW_S).counts
        event += 1
    # The lock, the labels, what is remembered, and what is deleted.
    assert event > 6
