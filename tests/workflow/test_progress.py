from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from dualproto_wsi.workflow.batch.outcome import SlideOutcome
from dualproto_wsi.workflow.batch.progress import JsonLog, RunTally, StateFile, human_time
from dualproto_wsi.workflow.listener import Listener, Listeners

A, B, C = (Path(f"/x/{name}.svs") for name in "abc")


def play(listener: Listener) -> None:
    listener.run_started([A, B, C], "model on cpu")
    for slide in (A, B):
        listener.slide_started(slide)
        listener.slide_planned(slide, 10)
    listener.tiles_done(A, 4)
    listener.tiles_done(B, 10)
    listener.tiles_done(A, 6)
    listener.slide_finished(SlideOutcome(A, Path("out/a.svs"), "done", tiles=10))
    listener.tiles_done(B, 0)
    listener.slide_finished(SlideOutcome(C, Path("out/c.svs"), "empty", skipped=True))
    listener.waiting([B])


def test_a_tally_counts_slides_that_are_under_way_at_a_time():
    tally = RunTally()
    assert tally.pace() == ""
    play(Listeners(tally))
    assert tally.finished == {"done": 1, "empty": 1}
    assert tally.current == {B: (10, 10)}
    assert tally.left == 1
    assert tally.share == 3
    assert tally.windows_per_s > 0
    assert tally.seconds_left == 0
    assert tally.summary() == "3 slide(s): 1 done, 1 empty, 1 left (1 of them were there already)"


def test_slides_to_come_are_taken_to_be_like_those_before(monkeypatch):
    now = iter([100.0, 110.0, 110.0])
    monkeypatch.setattr("dualproto_wsi.workflow.batch.progress.time.monotonic", lambda: next(now))
    tally = RunTally()
    tally.run_started([A, B, C], "model on cpu")
    tally.slide_planned(A, 40)
    tally.tiles_done(A, 20)
    assert tally.windows_per_s == 2
    assert tally.seconds_left == (20 + 40 + 40) / 2


def test_a_log_has_an_event_a_line():
    file = io.StringIO()
    log = JsonLog(file, every_s=0)
    play(log)
    log.run_ended()
    events = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        "run_started", *["slide_started", "slide_planned"] * 2, *["tiles_done"] * 3, "slide_finished", "tiles_done",
        "slide_finished", "waiting", "run_ended",
    ]  # fmt: skip
    assert [event["tiles"] for event in events if event["event"] == "tiles_done"] == [4, 10, 10, 10]
    assert all(event["time"].endswith("+00:00") for event in events)
    assert events[-1]["finished"] == {"done": 1, "empty": 1}
    assert events[-1]["left"] == 1


def test_a_state_that_finds_no_room_stops_nothing(tmp_path):
    play(StateFile(tmp_path / "gone" / "state.json", every_s=0))
    state = StateFile(tmp_path / "state.json", every_s=0)
    play(state)
    assert json.loads((tmp_path / "state.json").read_text())["left"] == 1


@pytest.mark.parametrize(("seconds", "told"), [(4, "4 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_are_in_the_unit_that_fits(seconds, told):
    assert human_time(seconds) == told
