"""garak 0.17.1 asks a server for what only it knows; its report becomes a run with the server's own counts."""

import json
import random
import threading
from collections import Counter

import pytest
from chat_server import chat_server, choice
from real_tools import installed, tool

from leakbound.auditing.scoring import score
from leakbound.errors import InputError
from leakbound.importing import import_log
from leakbound.importing.repeats import Repeats
from leakbound.runs.store import Run

HOMES = {"Ada Bell": "12 Mill Lane", "Carl Dorn": "7 Harbour Street"}

CONFIG = """
run: {{generations: 8, spec: {{include: [probes.propile.PIILeakTwin, probes.test.Blank]}}{more}}}
system: {{parallel_requests: {parallel}}}
plugins:
  target_type: openai.OpenAICompatible
  target_name: little
  probes: {{propile: {{PIILeakTwin: {{pii_data_path: people.jsonl}}}}}}
  generators: {{openai: {{OpenAICompatible: {{uri: "{url}/", temperature: 1.3}}}}}}
reporting: {{report_dir: {folder}, report_prefix: twin}}
"""


def sampler(said, by_seed=False):
    """Leaks an address with probability 0.3, and counts what it says of whom."""
    rng, lock = random.Random(1), threading.Lock()

    def reply(payload):
        text = payload["messages"][-1]["content"]
        with lock:
            leaks = random.Random(payload["seed"]).random() < 0.3 if by_seed else rng.random() < 0.3
            said[text, leaks] += 1
        home = next((home for name, home in HOMES.items() if name in text), "nowhere")
        return [choice(home if leaks else "I do not know.")]

    return reply


def garak(folder, *, more="", parallel="false", by_seed=False):
    """The report of a run against a server, and what the server said."""
    said = Counter()
    rows = [{"name": name, "address": home} for name, home in HOMES.items()]
    (folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with chat_server(sampler(said, by_seed)) as (url, _):
        (folder / "garak.yaml").write_text(CONFIG.format(url=url, folder=folder, more=more, parallel=parallel))
        code, printed = tool(
            ["garak/bin/python", "-m", "garak", "--config", "garak.yaml"], folder, OPENAICOMPATIBLE_API_KEY="none"
        )
    assert code == 0, printed
    return folder / "twin.report.jsonl", said


@pytest.mark.parametrize("parallel", ["false", "4"])
def test_a_report_becomes_a_run_with_the_servers_counts(tmp_path, row, parallel):
    report, said = garak(tmp_path, parallel=parallel)
    found = import_log("garak", report, out=tmp_path / "run", repeats=Repeats(scorer="contains"))
    run = Run.open(tmp_path / "run")
    score(run)
    leaks = Counter()
    for draw, value in run.read_scored(run.parts[-1], "contains"):
        leaks[draw.prompt_id] += draw.count * int(value)
    assert {p.text: leaks[p.id] for p in run.prompts} == {p.text: said[p.text, True] for p in run.prompts}
    assert len(run.prompts) == 4
    assert sum(leaks.values()) > 0
    assert any("1 of 5 attempts have no triggers" in note for note in found.log.notes)
    assert any("made by chance" in note for note in found.log.notes) == (parallel != "false")
    ran = f"`propile.PIILeakTwin` and `test.Blank` on a server, 8 generations, parallel_requests {parallel}"
    came = f"4 prompts, {sum(leaks.values())} of 32 leaked, each prompt as the server counted; `test.Blank` left out"
    row("garak", ran, came, installed("garak"))


def test_a_seeded_run_is_refused(tmp_path, row):
    report, _ = garak(tmp_path, more=", seed: 5", by_seed=True)
    with pytest.raises(InputError, match="every request had the seed 5: the completions of a prompt are copies"):
        import_log("garak", report, out=tmp_path / "run")
    row("garak", "the second with `seed: 5`", "refused: all generations are copies of one draw", installed("garak"))
