"""Late labels joined to the prediction log: each request has one label or none, whatever the files say and however often."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from hotcold.adapters.label_files import BAD_KEY, BAD_KNOWN_AT, BAD_LABEL, BAD_TIME, BROKEN_LINE
from hotcold.adapters.label_state import LOCK_FILE, STATE_FILE
from hotcold.adapters.locks import hold_file
from hotcold.adapters.prediction_compaction import compact
from hotcold.domain.errors import BadInputError, LabelError
from hotcold.domain.label_counts import LabelCounts
from tests.fixtures.disks import fill_disk, small_disk
from tests.fixtures.labels import BY_TIME, LabelScene
from tests.fixtures.prediction_logs import MODEL, START_S, answer, write_segment

HOUR_S = 3600.0
NOW_S = START_S + HOUR_S
NAN = float("nan")


@pytest.fixture
def scene(tmp_path: Path) -> LabelScene:
    return LabelScene(tmp_path)


def log(scene: LabelScene, count: int = 4, shadow: bool = True) -> None:
    """Requests w1-0, w1-1 and so on, one a second; each was also copied to a shadow, which another replica answered."""
    write_segment(scene.log, [[answer(number, at_s=START_S + number) for number in range(count)]])
    if shadow:
        copies = [answer(number, at_s=START_S + number + 0.01, shadow=True) for number in range(count)]
        write_segment(scene.log, [copies], writer="w2")


class TestById:
    def test_served_and_shadow_answers_share_one_label(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0", "w1-2"], late=[1, 0], known=[START_S + 60, START_S + 62])
        done = scene.join(known_at_column="known")
        assert {"w1-0": 1.0, "w1-2": 0.0} == scene.labels()
        assert {"w1-0": 60.0, "w1-2": 60.0} == scene.delays()
        assert (LabelCounts(rows=2, joined=2), 1, 1, {}) == (done.counts, done.files, done.files_done, done.problems)

    def test_archived_answers_have_labels_too(self, scene: LabelScene) -> None:
        log(scene)
        compact(scene.log / MODEL, 0.0, 30, NOW_S)
        scene.write("truth.parquet", id=["w1-3"], late=[True])
        assert 1 == scene.join().counts.joined and {"w1-3": 1.0} == scene.labels()

    def test_without_a_column_for_it_a_label_is_known_when_its_file_is_first_seen(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0", "not yet"], late=[1, 0])
        scene.join(now_s=START_S + 100)
        write_segment(scene.log, [[answer(0, request_id="not yet")]], number=1)
        scene.join(now_s=START_S + 900)
        assert {"w1-0": 100.0, "not yet": 100.0} == scene.delays()

    @pytest.mark.parametrize("name", ["truth.csv", "truth.parquet"])
    def test_many_files_of_either_kind(self, scene: LabelScene, name: str) -> None:
        log(scene)
        for number in range(4):
            if name.endswith("csv"):
                scene.text(f"{number}-{name}", f"late,id,more\n{number % 2},w1-{number},x\n")
            else:
                scene.write(f"{number}-{name}", late=[number % 2], id=[f"w1-{number}"])
        done = scene.join(f"{scene.input}/*{name}")
        assert (4, 4, 4) == (done.files, done.files_done, done.counts.joined)
        assert {"w1-0": 0.0, "w1-1": 1.0, "w1-2": 0.0, "w1-3": 1.0} == scene.labels()

    def test_ids_may_be_numbers(self, scene: LabelScene) -> None:
        write_segment(scene.log, [[answer(0, request_id="17")]])
        scene.write("truth.parquet", id=[17], late=[1])
        scene.join()
        assert {"17": 1.0} == scene.labels()


class TestContradictions:
    def test_in_one_file(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0", "w1-1", "w1-0", "w1-1", "w1-1"], late=[1, 0, 0, 0, 0])
        counts = scene.join().counts
        assert ({"w1-1": 0.0}, 1) == (scene.labels(), scene.store.contradicting)
        assert LabelCounts(rows=5, joined=1, contradicting=1, repeated=2) == counts

    def test_between_files(self, scene: LabelScene) -> None:
        log(scene)
        for number in range(2):
            scene.write(f"{number}.parquet", id=["w1-0", "w1-1"], late=[number, 1])
        assert LabelCounts(rows=4, joined=1, contradicting=1, repeated=1) == scene.join().counts
        assert {"w1-1": 1.0} == scene.labels()

    def test_between_runs(self, scene: LabelScene) -> None:
        """Not even the label that came first is used: nobody knows which one is true."""
        log(scene)
        scene.write("0.parquet", id=["w1-0", "w1-1"], late=[0, 1])
        assert 2 == scene.join().counts.joined
        for number in (1, 2):
            scene.write(f"{number}.parquet", id=["w1-0", "w1-1"], late=[1, 1])
            assert LabelCounts(rows=2, contradicting=1, known=1) == scene.join().counts
            assert ({"w1-1": 1.0}, 1) == (scene.labels(), scene.store.contradicting)

    def test_they_do_not_fill_the_disk(self, scene: LabelScene) -> None:
        """Of a request two labels are kept, however many there are."""
        log(scene)
        for number in range(10):
            scene.write("truth.parquet", id=["w1-0"] * 3, late=[number / 10, 0.5, 1.0])
            scene.join()
        assert 2 == sum(len(table) for _, table in scene.store.claims(0, NOW_S))
        assert {} == scene.labels()


class TestAgain:
    def test_a_file_that_is_done_is_not_read_again(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0"], late=[1])
        scene.join()
        version, done = scene.store.version(), scene.join()
        assert (LabelCounts(), 1, version) == (done.counts, done.files_done, scene.store.version())

    def test_the_same_labels_in_another_file_change_nothing(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0"], late=[1])
        scene.join()
        scene.write("copy.parquet", id=["w1-0"], late=[1])
        version, counts = scene.store.version(), scene.join().counts
        assert (LabelCounts(rows=1, known=1), version) == (counts, scene.store.version())

    def test_a_file_that_has_grown_gives_what_is_new(self, scene: LabelScene) -> None:
        log(scene)
        scene.text("truth.csv", "id,late\nw1-0,1\n")
        scene.join()
        scene.text("truth.csv", "id,late\nw1-0,1\nw1-1,0\n")
        assert LabelCounts(rows=2, joined=1, known=1) == scene.join().counts

    def test_a_label_that_comes_before_its_answer_is_joined_by_the_next_run(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0", "late-answer"], late=[1, 0])
        done = scene.join(now_s=NOW_S)
        assert (LabelCounts(rows=2, joined=1, unknown=1), 0) == (done.counts, done.files_done)
        write_segment(scene.log, [[answer(0, request_id="late-answer")]], number=1)
        done = scene.join(now_s=NOW_S + 60)
        assert (LabelCounts(rows=2, joined=1, known=1), 1) == (done.counts, done.files_done)
        assert {"w1-0": 1.0, "late-answer": 0.0} == scene.labels()

    def test_labels_of_requests_that_never_come_are_given_up(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0", "never"], late=[1, 0])
        seen = [scene.join(now_s=NOW_S + hour * HOUR_S, max_wait_h=5).counts.unknown for hour in (0, 4.9, 5.1, 6)]
        assert [1, 1, 1, 0] == seen

    def test_with_other_columns_it_is_another_file(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0"], other=["w1-1"], late=[1])
        scene.join()
        scene.join(request_id_column="other")
        assert {"w1-0": 1.0, "w1-1": 1.0} == scene.labels()


class TestByEntityAndTime:
    """Requests of `UA0`, `UA1` and so on arrive one a second; a seventh request is of the first entity again."""

    def join(self, scene: LabelScene, **given: object) -> LabelCounts:
        return scene.join(**{**BY_TIME, **given}).counts

    def test_it_belongs_to_the_requests_that_arrived_about_then(self, scene: LabelScene) -> None:
        log(scene, 8)
        scene.write("truth.parquet", flight=["UA0", "UA1", "UA9"], late=[1, 0, 0], sent=[START_S + 1, START_S - 3, START_S])
        assert LabelCounts(rows=3, joined=1, unknown=2) == self.join(scene)
        assert {"w1-0": 1.0} == scene.labels()

    def test_the_tolerance_holds_on_both_sides_to_the_microsecond(self, scene: LabelScene) -> None:
        for number, shift_s in enumerate((-2.000001, -2.0, 2.0, 2.000001)):
            write_segment(scene.log, [[answer(number, entity=b"UA0", at_s=START_S + shift_s)]], number=number)
        scene.write("truth.parquet", flight=["UA0"], late=[1], sent=[datetime.fromtimestamp(START_S, UTC)])
        self.join(scene)
        assert ["w1-1", "w1-2"] == sorted(scene.labels())

    def test_one_label_may_belong_to_several_requests(self, scene: LabelScene) -> None:
        log(scene, 8)
        scene.write("truth.parquet", flight=["UA0"], late=[1], sent=[START_S + 3])
        assert LabelCounts(rows=1, joined=2) == self.join(scene, tolerance_s=10.0)
        assert {"w1-0": 1.0, "w1-7": 1.0} == scene.labels()

    def test_two_that_claim_one_request_contradict_each_other_unless_they_are_equal(self, scene: LabelScene) -> None:
        log(scene, 3)
        scene.write(
            "truth.parquet",
            flight=["UA0", "UA0", "UA1", "UA1", "UA2", "UA2", "UA2"],
            late=[1, 0, 1, 1, 0.25, 0.25, 0.75],
            sent=[START_S, START_S + 1, START_S, START_S + 1, START_S + 1, START_S + 2, START_S + 3],
        )
        counts = self.join(scene)
        assert ({"w1-1": 1.0}, 2, 1) == (scene.labels(), counts.contradicting, counts.joined)

    @pytest.mark.parametrize(
        "sent",
        [
            "2026-11-25T10:00:01Z",
            "2026-11-25 10:00:01",
            "2026-11-25T12:00:01+02:00",
            f"{START_S + 1:.0f}",
            f"{START_S + 1:.1f}",
        ],
    )
    def test_times_are_read_as_people_write_them(self, scene: LabelScene, sent: str) -> None:
        log(scene)
        scene.text("truth.csv", f"flight,sent,late\nUA1,{sent},true\n")
        self.join(scene, tolerance_s=0.1)
        assert {"w1-1": 1.0} == scene.labels()

    @pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
    def test_times_are_read_as_programs_write_them(self, scene: LabelScene, zone: str | None) -> None:
        log(scene)
        sent = pa.array([round(START_S + 1) * 10**9]).cast(pa.timestamp("ns", zone))
        scene.write("truth.parquet", flight=["UA1"], late=[1], sent=sent)
        self.join(scene, tolerance_s=0.1)
        assert {"w1-1": 1.0} == scene.labels()

    def test_a_time_that_is_none_is_counted(self, scene: LabelScene) -> None:
        log(scene)
        scene.text("truth.csv", f"flight,sent,late\nUA1,soon,1\nUA1,,1\nUA1,{START_S * 1000:.0f},1\nUA0,{START_S},1\n")
        assert LabelCounts(rows=4, invalid={BAD_TIME: 3}, joined=1) == self.join(scene)


class TestInPieces:
    """Labels and log are read in pieces that fit into memory; where these end changes nothing."""

    IDS = 12

    @pytest.fixture(params=[(1, 1), (5, 7), (1000, 1000)])
    def sizes(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rows of labels and of the log; the real sizes would need gigabytes to have a second piece."""
        label_rows, log_rows = request.param
        monkeypatch.setattr("hotcold.adapters.label_join._PART_ROWS", {"parquet": label_rows, "csv": label_rows})
        monkeypatch.setattr("hotcold.adapters.label_match._BATCH_ROWS", log_rows)

    @pytest.mark.usefixtures("sizes")
    @pytest.mark.parametrize("how", ["id", "time"])
    def test_it_finds_what_a_loop_over_all_pairs_finds(self, scene: LabelScene, how: str) -> None:
        rng = random.Random(5)
        for number in range(self.IDS):
            write_segment(scene.log, [[answer(number, at_s=START_S + number)]], number=number)
            copy = answer(number, request_id=f"w1-{number}", at_s=START_S + number + 0.5, shadow=True)
            write_segment(scene.log, [[copy]], writer="w2", number=number)
        rows = [(rng.randrange(self.IDS + 3), float(rng.random() < 0.2)) for _ in range(30)]
        names = [f"w1-{number}" if how == "id" else f"UA{number % 7 if number < self.IDS else 9}" for number, _ in rows]
        for half in (slice(15), slice(15, 30)):
            sent = [START_S + number for number, _ in rows[half]]
            late = [label for _, label in rows[half]]
            scene.write(f"{half.stop}.parquet", id=names[half], flight=names[half], late=late, sent=sent)
        counts = scene.join(**(BY_TIME if how == "time" else {})).counts

        claimed = {number: {label for row, label in rows if row == number} for number in range(self.IDS)}
        wanted = {f"w1-{number}": min(labels) for number, labels in claimed.items() if len(labels) == 1}
        contradicting = sum(len(labels) > 1 for labels in claimed.values())
        unknown = sum(number >= self.IDS for number, _ in rows)
        assert wanted and contradicting and unknown
        assert (wanted, contradicting) == (scene.labels(), scene.store.contradicting)
        assert (30, unknown, len(wanted), contradicting, 0) == (
            *(counts.rows, counts.unknown, counts.joined),
            *(counts.contradicting, counts.known),
        )


class TestBadInput:
    def test_values_that_are_no_labels_are_counted(self, scene: LabelScene) -> None:
        log(scene, 8)
        ids = [f"w1-{number}" for number in range(6)] + ["", None]
        scene.write("truth.parquet", id=ids, late=[0.5, NAN, None, 2.0, -0.1, float("inf"), 1.0, 1.0])
        assert LabelCounts(rows=8, invalid={BAD_LABEL: 5, BAD_KEY: 2}, joined=1) == scene.join().counts
        assert {"w1-0": 0.5} == scene.labels()

    def test_rows_of_a_csv_file_that_cannot_be_read_are_counted(self, scene: LabelScene) -> None:
        log(scene)
        scene.text("truth.csv", 'id,late\nw1-0,1\nw1-1,1,1\n"w1-2,1\nw1-3,maybe\nw1-3,0\n')
        assert LabelCounts(rows=5, invalid={BROKEN_LINE: 2, BAD_LABEL: 1}, joined=2) == scene.join().counts
        assert {"w1-0": 1.0, "w1-3": 0.0} == scene.labels()

    def test_a_line_that_has_no_end_is_left_out_until_it_has(self, scene: LabelScene) -> None:
        """Half of `w1-10` would be the id of another request."""
        log(scene, 12)
        scene.text("truth.csv", "late,id\n1,w1-0\n1,w1-1")
        done = scene.join()
        assert ({"w1-0": 1.0}, 0) == (scene.labels(), done.files_done) and "no end" in next(iter(done.problems.values()))
        scene.text("truth.csv", "late,id\n1,w1-0\n1,w1-10\n")
        assert (1, {"w1-0": 1.0, "w1-10": 1.0}) == (scene.join().files_done, scene.labels())

    @pytest.mark.parametrize(
        "columns, needed",
        [
            ({"id": ["w1-1"]}, "lacks the column 'late'"),
            ({"late": [1]}, "lacks the column 'id'"),
            ({"id": ["w1-1"], "late": [[1]]}, "'late' is of type list"),
            ({"id": [1.5], "late": [1]}, "'id' is of type double"),
        ],
    )
    def test_a_file_with_other_columns_is_named_and_the_others_are_joined(
        self, scene: LabelScene, columns: dict[str, list[object]], needed: str
    ) -> None:
        log(scene)
        wrong = scene.write("a.parquet", **columns)
        scene.write("b.parquet", id=["w1-0"], late=[1])
        for _ in range(2):
            done = scene.join()
            assert ({"w1-0": 1.0}, 2, 1) == (scene.labels(), done.files, done.files_done)
            ((url, why),) = done.problems.items()
            assert url.endswith(wrong.name) and needed in why

    def test_a_file_that_is_cut_off_is_named_and_read_when_it_is_complete(self, scene: LabelScene) -> None:
        log(scene)
        path = scene.write("a.parquet", id=["w1-0"], late=[1])
        scene.write("b.parquet", id=["w1-1"], late=[1])
        content = path.read_bytes()
        path.write_bytes(content[:-5])
        done = scene.join()
        assert ({"w1-1": 1.0}, 1) == (scene.labels(), len(done.problems))
        path.write_bytes(content)
        assert ({}, 2) == (scene.join().problems, len(scene.labels()))

    def test_files_without_rows_are_done(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("a.parquet", id=pa.array([], pa.string()), late=pa.array([], pa.int64()))
        done = scene.join()
        assert (LabelCounts(), 1, {}) == (done.counts, done.files_done, done.problems)
        scene.text("b.csv", "id,late\n")
        assert 1 == scene.join(f"{scene.input}/*.csv").files_done
        scene.text("c.csv", "")
        assert ["the CSV file has no header line"] == [*scene.join(f"{scene.input}/c.csv").problems.values()]

    def test_without_files_there_is_nothing_to_join(self, scene: LabelScene) -> None:
        with pytest.raises(BadInputError, match="there is nothing at"):
            scene.join()

    def test_without_a_log_all_labels_wait(self, scene: LabelScene) -> None:
        scene.write("truth.parquet", id=["w1-0"], late=[1])
        assert LabelCounts(rows=1, unknown=1) == scene.join().counts


class TestClocks:
    def test_a_label_that_was_known_before_the_request_arrived_is_counted(self, scene: LabelScene) -> None:
        log(scene)
        scene.text("truth.csv", f"id,late,known\nw1-0,1,{START_S - 30}\nw1-1,0,{START_S + 31}\n")
        assert LabelCounts(rows=2, joined=2, early=1) == scene.join(known_at_column="known").counts
        assert {"w1-0": -30.0, "w1-1": 30.0} == scene.delays()

    def test_a_moment_beyond_all_calendars_is_none(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0"], late=[1], known=pa.array([2**62], pa.timestamp("us")))
        assert LabelCounts(rows=1, invalid={BAD_KNOWN_AT: 1}) == scene.join(known_at_column="known").counts

    def test_a_row_that_does_not_say_when_is_counted(self, scene: LabelScene) -> None:
        log(scene)
        scene.text("truth.csv", "id,late,known\nw1-0,1,\n")
        assert LabelCounts(rows=1, invalid={BAD_KNOWN_AT: 1}) == scene.join(known_at_column="known").counts


class TestFaults:
    def test_two_at_once_do_not_meet(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0"], late=[1])
        with hold_file(scene.store.folder / LOCK_FILE, 0.0), pytest.raises(LabelError, match="another run joins labels"):
            scene.join()
        assert 1 == scene.join().counts.joined

    def test_a_state_that_is_damaged_is_named(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0"], late=[1])
        scene.join()
        for content in (b"{", b"[]", b"{}", b'{"layout": 9}', b'{"layout": 1, "source": 1, "files": {}}'):
            (scene.store.folder / STATE_FILE).write_bytes(content)
            with pytest.raises(LabelError):
                scene.join()
        (scene.store.folder / STATE_FILE).unlink()
        assert (LabelCounts(rows=1, known=1), {"w1-0": 1.0}) == (scene.join().counts, scene.labels())

    def test_a_full_disk_leaves_everything_as_it_was(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", "512k") as root:
            scene = LabelScene(tmp_path)
            scene.store.folder = root / MODEL
            log(scene, 20_000, shadow=False)
            scene.write("a.parquet", id=["w1-0"], late=[1])
            scene.join()
            version, state = scene.store.version(), (scene.store.folder / STATE_FILE).read_bytes()
            scene.write("b.parquet", id=[f"w1-{number}" for number in range(20_000)], late=[1] * 20_000)
            ballast = fill_disk(root)
            with pytest.raises(OSError, match="No space left"):
                scene.join()
            assert (version, state) == (scene.store.version(), (scene.store.folder / STATE_FILE).read_bytes())
            ballast.unlink()
            assert 19_999 == scene.join().counts.joined

    def test_labels_go_with_the_answers_they_belong_to(self, scene: LabelScene) -> None:
        log(scene)
        scene.write("truth.parquet", id=["w1-0"], late=[1])
        scene.join(now_s=NOW_S)
        scene.join(now_s=NOW_S + 29 * 24 * HOUR_S)
        assert {"w1-0": 1.0} == scene.labels()
        scene.join(now_s=NOW_S + 32 * 24 * HOUR_S)
        assert {} == scene.labels()
