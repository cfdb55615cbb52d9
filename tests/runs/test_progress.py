"""What is shown while something long goes on: plain lines, and a bar on a terminal."""

from time import monotonic, sleep

import pytest

from leakbound.runs import progress
from leakbound.runs.progress import Progress, steps


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only the test lets pass."""
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "BEAT", 3600.0)

    def wait(seconds):
        now[0] += seconds

    return wait


@pytest.fixture
def file(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def terminal(file, monkeypatch):
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "100", "TTY_INTERACTIVE": "1"}.items():
        monkeypatch.setenv(name, value)


def test_lines_of_a_file_count_units_at_most_every_thirty_seconds(file, clock, capsys):
    shards = [1000, 1000, 3000, 5000, 2000]
    with steps(shards, "drawing x", unit="draws", weight=lambda size: size) as some:
        for _, seconds in zip(some, (10, 19, 1, 29.9, 20.1), strict=True):
            clock(seconds)
    lines = capsys.readouterr().err.splitlines()
    # after 29 s nothing; after 30 s 5,000 draws; 29.9 s later nothing; the last line whatever the time
    assert lines == [
        "drawing x: 5,000 of 12,000 draws, 41 %, 167/s, 0:00:42 left",
        "drawing x: 12,000 of 12,000 draws, 100 %, 150/s, 0:00:00 left",
        "drawing x: 12,000 of 12,000 draws, 100 %, 150/s, took 0:01:20",
    ]


def test_slow_work_has_a_rate_of_two_digits_and_long_work_hours(file, clock, capsys):
    with Progress("training", 100_000, "steps") as shown:
        clock(8)
        shown.advance()
        clock(32)
        shown.say("loss 0.12")
        shown.advance()
        shown.advance(99_998)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "training: 2 of 100,000 steps, 0 %, 0.05/s, 23 days, 3:32:40 left, loss 0.12"
    assert last == "training: 100,000 of 100,000 steps, 100 %, 2,500/s, took 0:00:40, loss 0.12"


def test_a_unit_that_takes_long_is_waited_for_by_lines(file, monkeypatch, capsys):
    monkeypatch.setattr(progress, "BEAT", 0.001)
    monkeypatch.setattr(progress, "EVERY", 0.05)
    begun = monotonic()
    with Progress("study", 2, "models") as shown:
        shown.say("the first")
        sleep(0.3)
        shown.advance(2)
        shown.last = monotonic() + 60  # no more until the end
    allowed = (monotonic() - begun) / 0.05
    *waiting, last = capsys.readouterr().err.splitlines()
    assert 1 <= sum(line == "study: 0 of 2 models, 0 %, since 0:00:00, the first" for line in waiting) <= allowed
    assert last.startswith("study: 2 of 2 models, 100 %")
    sleep(0.1)
    assert capsys.readouterr().err == ""


def test_what_was_done_before_is_counted_and_not_timed(file, clock, capsys):
    with Progress("training", 0, "steps") as shown:
        clock(500)  # loading
        shown.begin(12, done=8)
        clock(40)
        shown.advance()
    assert capsys.readouterr().err.splitlines() == [
        "training: 9 of 12 steps, 75 %, 0.025/s, 0:02:00 left",
        "training: 9 of 12 steps, 75 %, 0.025/s, stopped after 0:00:40",
    ]


def test_an_interruption_says_how_far_it_came(file, clock, capsys):
    def interrupted():
        with steps([1, 2, 3], "scoring x", unit="draws") as some:
            for item in some:
                clock(1)
                if item == 2:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err == "scoring x: 1 of 3 draws, 33 %, 0.5/s, stopped after 0:00:02\n"


@pytest.mark.parametrize(("items", "show", "rank"), [([1, 2], False, "0"), ([], True, "0"), ([1, 2], True, "1")])
def test_nothing_is_shown_where_not_wanted_or_nothing_is_to_do_or_another_process_shows_it(
    items, show, rank, file, clock, capsys, monkeypatch
):
    monkeypatch.setenv("RANK", rank)
    seen = []
    with steps(items, "x", unit="draws", show=show) as some:
        for item in some:
            clock(100)
            seen.append(item)
    assert seen == items
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar_with_the_same_words(terminal, clock, capsys):
    with steps([1000, 3000], "drawing [x]", unit="draws", weight=lambda size: size) as some:
        for _ in some:
            clock(10)
    out, shown = capsys.readouterr()
    assert out == ""
    assert "\x1b[?25l" in shown  # the cursor goes ...
    assert "\x1b[?25h" in shown  # ... and comes back
    assert shown.count("━") >= 10
    assert "drawing [x]" in shown
    assert "4,000 of 4,000 draws, 200/s, took 0:00:20" in shown


def test_a_terminal_gets_its_cursor_back_from_an_error(terminal, clock, capsys):
    def broken():
        with Progress("x", 5, "steps") as shown:
            shown.advance(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    said = capsys.readouterr().err
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    assert "2 of 5 steps, stopped after 0:00:00" in said


def test_a_title_cannot_act_on_the_terminal(file, clock, capsys):
    with Progress("draw\x1b[2J" + "x" * 100, 1, "draws") as shown:
        shown.advance()
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert said.startswith("draw⟨ESC⟩[2Jxxx")
    assert len(said) < 110
