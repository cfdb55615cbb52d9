"""Work spread over processes: all of it once, whatever dies, and nothing left behind."""

import math
import os
import signal
import subprocess
import sys
import threading
import time

import away_models
import pytest

from leakbound.errors import InputError, WorkerError
from leakbound.workers import Crew, Workers, crew, crew_for, processes, spread
from leakbound.workers.crew import collected
from leakbound.workers.hands import Full, Lost


@pytest.fixture
def two():
    made = crew_for(Workers(workers=2))
    yield made
    made.close()


def squares(do, x):
    yield do(away_models.square, x)
    yield do(away_models.square, -x) + 1


def gone(number):
    """Whether a process ends within some seconds."""
    for _ in range(500):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_every_item_is_worked_on_once_and_its_results_come_in_their_order(two):
    for who in (None, two):
        found = {}
        with spread(who, range(7), squares) as results:
            for item, result in results:
                found.setdefault(item, []).append(result)
        assert found == {x: [x * x, x * x + 1] for x in range(7)}
    assert collected(two, "abc", lambda do, x: do(str.upper, x)) == ["A", "B", "C"]
    assert collected(two, [], lambda do, x: do(str.upper, x)) == []
    assert len({two.do(away_models.pid) for _ in range(3)}) == 1  # nobody new for one task after the other


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_with_its_task(two, tmp_path, monkeypatch):
    monkeypatch.setenv("AWAY", str(tmp_path))
    for name in ("2.once", "4.once", "44.once", "5.once"):
        (tmp_path / name).touch()
    names = [str(x) * 3 for x in range(6)]
    assert collected(two, names, lambda do, x: do(away_models.dying, x, x + "!")) == [x + "!" for x in names]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_given_up_by_its_name(two, tmp_path, monkeypatch):
    monkeypatch.setenv("AWAY", str(tmp_path))
    (tmp_path / "b.always").touch()
    with pytest.raises(WorkerError, match=r"(?s)^the b was given up.* died 4 times.*signal 9.*: my last words"):
        collected(two, "ab", lambda do, x: do(away_models.dying, x, x), "the {}".format)
    with pytest.raises(WorkerError, match="dying was given up"):
        two.do(away_models.dying, "b", 0)
    assert two.do(away_models.square, 3) == 9


def test_what_a_task_raises_is_raised_here(two):
    with pytest.raises(ValueError, match="math domain error") as caught:
        collected(two, [1, -1], lambda do, x: do(math.sqrt, x))
    assert "in a worker" in caught.value.__notes__[0]
    with pytest.raises(InputError, match="workers is -1"):
        two.do(away_models.refused)
    assert collected(two, [4, 9], lambda do, x: do(math.sqrt, x)) == [2, 3]


def test_a_worker_goes_on_while_its_result_is_being_written():
    goes_on = threading.Event()

    def work(do, x):
        if x == 2:
            goes_on.set()
        yield do(away_models.square, x)

    with spread(Crew(Rooms(1)), [1, 2], work) as results:
        for _, result in results:
            assert result == 4 or goes_on.wait(20)


def test_what_is_raised_while_results_are_taken_ends_the_tasks(two):
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted(two)
    assert time.monotonic() - begin < 30  # the others would sleep for a minute
    assert two.do(away_models.square, 2) == 4


def interrupted(who):
    with spread(who, [0, 1, 2], lambda do, x: [do(away_models.sleeping) if x else 0]) as results:
        for _ in results:
            raise KeyboardInterrupt


def test_workers_are_gone_with_their_crew():
    made = crew_for(Workers(workers=1))
    worker = made.do(away_models.pid)
    del made
    assert gone(worker)


@pytest.mark.slow
def test_workers_are_gone_when_their_driver_is_killed():
    said = (
        "import away_models; from leakbound.workers import Workers, crew_for; c = crew_for(Workers(workers=1)); "
        "print(c.do(away_models.pid), flush=True); c.do(away_models.sleeping)"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", said], stdout=subprocess.PIPE, env=path)
    worker = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert gone(worker)


def test_a_worker_has_its_threads_and_its_share_of_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    made = crew_for(Workers(workers=2, threads=3))
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LEAKBOUND_SHARING")
    one, other = made.place.hire(), made.place.hire()
    assert [one.do(os.getenv, name) for name in names] == ["3", "4,6", "1"]
    assert [other.do(os.getenv, name) for name in names] == ["3", "5", "1"]
    for hand in (one, other):
        hand.close()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hand = crew_for(Workers(workers=2)).place.hire()
    assert [hand.do(os.getenv, name) for name in names] == ["1", "", "2"]
    hand.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": -1}, "workers is -1"),
        ({"workers": True}, "workers is True"),
        ({"workers": 2, "threads": 0}, "threads is 0"),
        ({"threads": 2}, "threads is 2 without workers"),
    ],
)
def test_refused_settings(given, said):
    with pytest.raises(InputError, match=said):
        Workers(**given)


class Rooms:
    """A place in this process where rooms come and go; a hand dies of what it is told."""

    def __init__(self, room):
        self.open, self.asked, self.hired, self.dies = room, room, 0, set()

    def room(self):
        return max(1, self.open)

    def hire(self):
        if self.hired >= self.open:
            raise Full
        self.hired += 1
        return Here(self)

    def close(self):
        pass


class Here:
    def __init__(self, place):
        self.place, self.done, self.alive = place, [], True

    def do(self, function, *args):
        if args and args[0] in self.place.dies:
            self.place.dies.discard(args[0])
            raise Lost("it fell")
        self.done.append(args)
        return function(*args)

    def close(self):
        self.place.hired -= self.alive
        self.alive = False


def test_an_item_whose_worker_finds_no_place_is_taken_by_others(monkeypatch):
    monkeypatch.setattr(crew, "LOOK", 0.01)
    place = Rooms(2)
    place.dies = {-3}

    def work(do, x):
        yield do(away_models.square, x)
        if x == 3:
            place.open = 1  # a node goes, and its worker has no place any more
        yield do(away_models.square, -x)

    found = []
    with spread(Crew(place), range(6), work) as results:
        found = sorted(results)
    assert found[-2:] == [(5, 25), (5, 25)]
    assert {x: [r for i, r in found if i == x] for x in (0, 1, 2, 4)} == {x: [x * x] * 2 for x in (0, 1, 2, 4)}
    assert [r for i, r in found if i == 3][:2] == [9, 9]  # begun again as a whole where it had to be


def test_an_idle_worker_goes_before_a_seat_without_one(monkeypatch):
    monkeypatch.setattr(crew, "LOOK", 0.01)
    place = Rooms(2)
    who = Crew(place)
    assert collected(who, range(4), lambda do, x: do(away_models.square, x)) == [0, 1, 4, 9]
    place.open = 1  # all rooms are taken by workers that are idle
    place.dies = {-1}
    assert collected(who, range(4), lambda do, x: do(away_models.square, -x)) == [0, 1, 4, 9]


def test_more_room_is_more_workers(monkeypatch):
    monkeypatch.setattr(crew, "LOOK", 0.01)
    place, seen, both = Rooms(1), [], threading.Event()
    who = Crew(place)

    def work(do, x):
        seen.append(do(away_models.square, x))
        if x == 1:
            place.open = 2
            assert both.wait(20)  # ends only if another worker comes beside it
        if x == 2:
            both.set()
        yield x

    with spread(who, [1, 2], work) as results:
        assert sorted(results) == [(1, 1), (2, 2)]
    assert place.hired == 2


def test_without_any_place_the_item_is_given_up_after_a_while(monkeypatch):
    monkeypatch.setattr(crew, "LOOK", 0.01)
    monkeypatch.setattr(crew, "PATIENCE", 0.05)
    with pytest.raises(WorkerError, match="x was given up: there was no room"):
        collected(Crew(Rooms(0)), ["x"], lambda do, x: do(away_models.square, x))
    with pytest.raises(WorkerError, match="square was given up: there was no room"):
        Crew(Rooms(0)).do(away_models.square, 1)


def test_what_comes_first_is_done_once_by_each_worker():
    place = Rooms(2)
    made = Crew(place)
    made.first = [(away_models.square, 7)]
    place.dies = {5}
    assert sorted(collected(made, [5, 6, 8], lambda do, x: do(away_models.square, x))) == [25, 36, 64]
    for seat in made.idle:
        assert seat.hand is None or [args for args in seat.hand.done if args == (7,)] == [(7,)]


def test_what_all_need_is_begun_by_all_that_were_asked_for_and_asked_again_where_it_fell():
    place = Rooms(2)
    made = Crew(place)
    begun = threading.Barrier(2)

    def both():
        begun.wait(20)  # ends only if two do it at once
        return 5

    assert made.everywhere(both) == 5
    place.dies = {-3}
    assert made.everywhere(away_models.square, -3) == 9  # one of the two fell
    assert len(made.idle) == 2
    assert sorted(collected(made, [1, 2, 3, 4], lambda do, x: do(away_models.square, x))) == [1, 4, 9, 16]
    assert place.hired == 2
    with pytest.raises(ValueError, match="math domain error"):
        made.everywhere(math.sqrt, -1)
    assert place.hired == 0  # whoever holds the error holds no workers


def test_an_answer_that_nobody_waited_for_is_not_that_of_the_next_task(two, monkeypatch):
    before = two.do(away_models.pid)

    def interrupt(pipe):
        raise KeyboardInterrupt

    receive = processes._receive
    monkeypatch.setattr(processes, "_receive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        two.do(away_models.square, 5)
    monkeypatch.setattr(processes, "_receive", receive)
    assert two.do(away_models.square, 3) == 9
    assert two.do(away_models.pid) != before


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="no signals")
def test_ctrl_c_is_for_the_driver_alone(two):
    worker = two.do(away_models.pid)
    assert os.getpgid(worker) != os.getpgid(0)


def test_how_much_room_there_is_is_looked_at_every_second_not_at_every_result(monkeypatch):
    class Room:
        looks = 0

        def room(self):
            self.looks += 1
            return 2

        def hire(self):
            return self

        def close(self):
            pass

    place, now = Room(), [0.0]
    monkeypatch.setattr(crew.time, "monotonic", lambda: now[0])
    with spread(Crew(place), range(50), lambda do, x: range(10)) as found:
        for number, _ in enumerate(found):
            if number == 250:
                now[0] += crew.LOOK
            if number == 450:
                break
    assert number == 450
    assert place.looks == 2
