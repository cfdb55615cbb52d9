"""PyRIT 1.1.0 sends prompts to a server; its memory becomes a run with the server's own counts."""

import random
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest
from chat_server import chat_server, choice
from real_tools import installed, tool

from leakbound.auditing.scoring import score
from leakbound.errors import InputError
from leakbound.importing import import_log
from leakbound.importing.repeats import Repeats
from leakbound.runs.store import Run

TOOLS = Path(__file__).parent / "tools"
SECRETS = {"Where was she born?": "Paris", "Who is he?": "a baker", "What does she keep?": "bees"}


def sampler(said, empty=0):
    """Leaks with probability 0.3, is cut with probability 0.2, counts what it says; its first answers are empty."""
    rng, lock = random.Random(1), threading.Lock()

    def reply(payload):
        question = payload["messages"][-1]["content"]
        with lock:
            leaks, cut = rng.random() < 0.3, rng.random() < 0.2
            said[question, leaks, cut] += 1
            if said.total() <= empty:
                return [choice("")]
        return [choice(f"It is {SECRETS[question]}." if leaks else "I do not know.", "length" if cut else "stop")]

    return reply


def pyrit(folder, reply, *more):
    """The memory after eight attacks for each question."""
    shutil.copytree(TOOLS, folder / "tools")
    with chat_server(reply) as (url, _):
        quick = {"RETRY_WAIT_MIN_SECONDS": "0", "RETRY_WAIT_MAX_SECONDS": "1"}
        code, printed = tool(["pyrit/bin/python", "tools/pyrit_attacks.py", url, "memory.db", *more], folder, **quick)
    assert code == 0, printed
    return folder / "memory.db"


def test_a_memory_becomes_a_run_with_the_servers_counts(tmp_path, row):
    said = Counter()
    memory = pyrit(tmp_path, sampler(said))
    found = import_log("pyrit", memory, out=tmp_path / "run", repeats=Repeats(scorer="contains"))
    run = Run.open(tmp_path / "run")
    score(run)
    counted, known = Counter(), {p.id: p.text for p in run.prompts}
    for draw, value in run.read_scored(run.parts[-1], "contains"):
        counted[known[draw.prompt_id], bool(value), draw.finish_reason == "length"] += draw.count
    assert counted == said
    assert (run.info["model"]["model"], run.info["num_samples"]) == ("little", 8)
    assert (run.info["params"]["temperature"], run.info["params"]["max_tokens"]) == (0.7, 64)
    leaks = sum(n for (_, leaked, _), n in said.items() if leaked)
    assert f"PyRIT's scorers call {leaks} of 24 attacks a success; that is not taken over." in found.log.notes
    ran = "`PromptSendingAttack`, 8 for each of 3 questions, on a server; memory in SQLite"
    row("pyrit", ran, f"3 prompts, {leaks} of 24 leaked, each prompt as the server counted", installed("pyrit"))


def test_attacks_that_try_until_they_succeed_are_refused(tmp_path, row):
    memory = pyrit(tmp_path, sampler(Counter()), 3)
    with pytest.raises(InputError, match=r"tried again after an answer without success \(max_attempts_on_failure\)"):
        import_log("pyrit", memory, out=tmp_path / "run")
    row("pyrit", "the same with `max_attempts_on_failure=3`", "refused: chosen by the outcome", installed("pyrit"))


def test_an_empty_answer_that_was_asked_for_again_is_refused(tmp_path, row):
    memory = pyrit(tmp_path, sampler(Counter(), empty=1))
    with pytest.raises(InputError, match=r"thrown away and asked for again \(EmptyResponseException\)"):
        import_log("pyrit", memory, out=tmp_path / "run")
    ran = "the same, the server's first answer empty"
    row("pyrit", ran, "PyRIT asks again and keeps the second answer; refused", installed("pyrit"))
