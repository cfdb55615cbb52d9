"""What the viewer's server answers, to whom, and what it says of a run that is incomplete, stale or broken."""

import csv
import http.client
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from contextlib import closing, contextmanager
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest
from made_audits import ask

from leakbound import InputError, audit, score
from leakbound.auditing.steps import bound
from leakbound.models import FakeModel
from leakbound.records import Prompt, SamplingParams
from leakbound.results.audit import Audit
from leakbound.runs.layout import Part
from leakbound.runs.store import Run
from leakbound.viewing.asking import Shelf
from leakbound.viewing.folder import open_folders
from leakbound.viewing.found import run_folders
from leakbound.viewing.serving import Viewer, view
from leakbound.viewing.skimming import skim

LEAKS = [0.9, 0.2, 0.0, 0.6, 0.0, 0.05]


@contextmanager
def viewing(*folders, retain=()):
    with closing(Viewer(Shelf(open_folders(run_folders(folders, retain))))) as viewer:
        thread = threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield viewer
        viewer.shutdown()


def fetch(viewer, path, method="GET", **headers):
    """Status, headers and body for a path below the secret; one that begins with / stands for itself."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.server_port, timeout=30)
    with closing(connection):
        target = path if path.startswith("/") else f"/{viewer.key}/{path}"
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def told(viewer, what, **query):
    status, _, body = fetch(viewer, f"api/{what}?{urlencode(query)}")
    found = json.loads(body)
    assert status == (400 if "error" in found else 200) or status == 409, (status, found)
    return found


def counted(viewer, run=0):
    while not (found := told(viewer, "progress", run=run))["ended"]:
        threading.Event().wait(0.01)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    ask(LEAKS, folder)
    return folder


@pytest.fixture(scope="module")
def viewer(made):
    with viewing(made) as it:
        yield it


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "one")


def ids(viewer, **query):
    return [row["id"] for row in told(viewer, "prompts", run=0, **query)["rows"]]


def test_the_list_is_the_reports_and_comes_in_pages(viewer, made):
    everyone = told(viewer, "prompts", run=0)
    assert everyone["total"] == everyone["of"] == len(LEAKS)
    rows = {row["id"]: row for row in everyone["rows"]}
    for p in Audit.load(made).prompts:
        row = rows[p.prompt.id]
        assert row["leaks"] == f"{p.num_leaks} of {p.num_samples}"
        assert row["status"] == {1.0: "plain"}.get(p.greedy_score, "hidden" if p.num_leaks else "unseen")
        assert row["jointly"].startswith("≤ ")
        assert float(row["jointly"][2:]) >= p.leak_jointly.upper
    order = [row["id"] for row in everyone["rows"]]
    assert order[:2] == ["p1", "p5"]  # hidden ones, then open ones, then the rest
    assert [i for start in (0, 2, 4) for i in ids(viewer, start=start, count=2)] == order
    assert told(viewer, "prompts", run=0, count=2, at=order[4])["at"] == 4


def test_filter_search_and_sort(viewer):
    assert ids(viewer, status="hidden") == ["p1", "p5"]
    assert set(ids(viewer, status="hidden,plain")) == {"p0", "p1", "p3", "p5"}
    assert ids(viewer, q="SECRET 4") == ["p4"]
    assert ids(viewer, q="alpha 3.") == ["p3"]  # the secret
    assert ids(viewer, q="nowhere") == []
    assert ids(viewer, sort="file") == [f"p{i}" for i in range(6)]
    assert ids(viewer, sort="file", down=1) == [f"p{i}" for i in reversed(range(6))]
    assert ids(viewer, sort="leaks")[:3] == ["p0", "p3", "p1"]
    assert ids(viewer, sort="bound")[:3] == ["p0", "p3", "p1"]
    assert ids(viewer, pick="1,3") != ids(viewer)
    assert set(ids(viewer, pick="1,3")) == {"p1", "p3"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"run": "7"}, "run is '7'"), ({"run": "x"}, "run is 'x'"), ({"count": "501"}, "count is '501'"),
        ({"start": "-1"}, "start is '-1'"), ({"sort": "beauty"}, "sort is 'beauty'"), ({"other": "9"}, "other is '9'"),
    ],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_named(viewer, query, said):
    assert said in told(viewer, "prompts", **query)["error"]


@pytest.mark.parametrize("draw", ["²", "-1", "9" * 5000, "nothing", "1" * 30])
def test_a_link_to_a_draw_that_is_none_shows_the_prompt(viewer, draw):
    assert told(viewer, "prompt", run=0, id="p1", draw=draw)["found"] is None


def test_one_prompt_with_what_leaked_marked(viewer, made):
    found = told(viewer, "prompt", run=0, id="p1")
    assert found["problem"] is None
    greedy, first = found["answers"][:2]
    assert (greedy["draw"], greedy["leaks"]) == ("greedy", False)
    assert first["leaks"] is True
    assert first["pieces"] == [["alpha 1", True], [".", False]]
    p = next(p for p in Audit.load(made).prompts if p.prompt.id == "p1")
    assert first["times"] == str(p.num_leaks)
    assert [a["leaks"] for a in told(viewer, "prompt", run=0, id="p1", show="leaks")["answers"]] == [True]
    assert told(viewer, "prompt", run=0, id="p1", find="do not")["total"] == 2  # greedy, and sampled
    linked = told(viewer, "prompt", run=0, id="p1", count=1, draw=first["draw"])
    assert linked["found"] == first["draw"]  # though it is not on the page that was asked for
    assert "no prompt 'p9'" in told(viewer, "prompt", run=0, id="p9")["missing"]
    assert "show is 'odd'" in told(viewer, "prompt", run=0, id="p1", show="odd")["error"]


def test_exports_hold_the_selection_and_no_spreadsheet_runs_them(viewer):
    rows = list(map(json.loads, fetch(viewer, "export.jsonl?run=0&pick=1,3")[2].splitlines()))
    assert {row["id"] for row in rows} == {"p1", "p3"}
    assert all(row["leak_upper"] < 1 for row in rows)
    status, headers, body = fetch(viewer, "export.csv?run=0&status=hidden&what=answers")
    assert status == 200
    assert headers["Content-Disposition"] == 'attachment; filename="leakbound.csv"'
    table = list(csv.DictReader(io.StringIO(body.decode())))
    assert {row["id"] for row in table} == {"p1", "p5"}
    assert {row["leaks"] for row in table} == {"True", "False"}
    one = list(map(json.loads, fetch(viewer, "export.jsonl?run=0&id=p1&what=answers&show=leaks")[2].splitlines()))
    assert [row["text"] for row in one] == ["alpha 1."]
    assert one[0]["count"] == len(one[0]["draws"])
    assert fetch(viewer, "export.csv?run=0&id=p77")[0] == 400


def test_only_this_machine_and_only_who_knows_the_address(viewer):
    here = f"127.0.0.1:{viewer.server_port}"
    assert fetch(viewer, "")[0] == 200
    assert fetch(viewer, "api/runs", Host=f"localhost:{viewer.server_port}")[0] == 200
    for host in ("evil.example", f"evil.example:{viewer.server_port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert fetch(viewer, "api/runs", Host=host)[0] == 421, host
    assert fetch(viewer, "api/runs", Host=here, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert fetch(viewer, "/")[0] == 404
    assert fetch(viewer, "/api/runs")[0] == 404
    assert fetch(viewer, f"/{'x' * len(viewer.key)}/api/runs")[0] == 404
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS"):
        assert fetch(viewer, "api/runs", method)[0] == 501
    assert viewer.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    [
        "../serving.py",
        "..%2fserving.py",
        "view.html",
        "%2e%2e/%2e%2e/etc/passwd",
        "api/../view.js",
        "api/__class__",
        "api/",
    ],
)
def test_no_file_is_read_by_a_name_that_somebody_gives(viewer, path):
    assert fetch(viewer, path)[0] == 404
    assert fetch(viewer, f"/{viewer.key}//etc/passwd")[0] == 404
    found = told(viewer, "prompt", run=0, id="../../../etc/passwd")
    assert "no prompt" in found["missing"]


def test_the_page_may_load_nothing_from_elsewhere_and_run_nothing_else(viewer):
    _, headers, page = fetch(viewer, "")
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    for name, kind in (
        ("view.js", "text/javascript"),
        ("prompt.js", "text/javascript"),
        ("view.css", "text/css"),
        ("report.css", "text/css"),
    ):
        status, headers, text = fetch(viewer, name)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert b"://" not in text.replace(b"https://www.w3.org", b"")
        assert b"innerHTML" not in text
    assert b"style=" not in page
    assert b"onclick" not in page


def test_opening_reads_no_draws(made, monkeypatch):
    read = []
    monkeypatch.setattr(Run, "read_draws", lambda self, part: read.append(part.name))
    monkeypatch.setattr(Run, "read_counts", lambda self, part, scorer: read.append(part.name))
    shelf = Shelf(open_folders(run_folders([made])))
    assert shelf.runs({})["runs"][0]["problems"] == []
    assert len(shelf.prompts({})["rows"]) == len(LEAKS)
    assert read == []


def test_opening_imports_nothing_slow(made):
    slow = ["torch", "transformers", "datasets", "pandas", "scipy", "sklearn", "matplotlib", "nltk"]
    code = f"""
import sys
from pathlib import Path
from leakbound.viewing.asking import Shelf
from leakbound.viewing.folder import open_folders
from leakbound.viewing.found import run_folders
shelf = Shelf(open_folders(run_folders([Path({str(made)!r})])))
assert shelf.runs({{}})["runs"][0]["tiles"] and shelf.prompts({{}})["rows"]
print([name for name in {slow} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_skimmed_audit_says_what_the_whole_one_says(made, copy):
    whole, run = Audit.load(made), Run.open(made)
    found = skim(made / "audit.json", run.prompts)
    alike = [replace(p, survival=None, worst=(), looks=()) for p in whole.prompts]
    assert replace(found, prompts=()) == replace(whole, prompts=())
    assert list(found.prompts) == alike
    file = copy / "audit.json"
    file.write_text(file.read_text().replace('"num_leaks": 0', '"num_leaks": 1', 1))
    with pytest.raises(InputError, match="checksum does not fit"):
        skim(file, run.prompts)


def problems(folder):
    with viewing(folder) as it:
        found = told(it, "runs")["runs"][0]
        counted(it)
        return found, " | ".join(f"{p['text']}: {p['command']}" for p in told(it, "runs")["runs"][0]["problems"])


def test_scores_without_a_statement_are_never_safe(copy):
    (copy / "audit.json").unlink()
    found, said = problems(copy)
    assert "There is no audit.json" in said
    assert f"leakbound bound {copy}" in said
    assert found["tone"] == "unknown"
    with viewing(copy) as it:
        counted(it)
        rows = {row["id"]: row for row in told(it, "prompts", run=0)["rows"]}
        assert {row["status"] for row in rows.values()} == {"unknown"}
        assert rows["p2"]["leaks"] == "0 of 150"
        assert rows["p2"]["jointly"] == "–"
        assert ids(it, sort="leaks")[0] == "p0"
        assert ids(it, status="unseen") == []
        assert told(it, "prompt", run=0, id="p2")["facts"] == []


def test_draws_without_scores_are_not_clean(copy):
    (copy / "audit.json").unlink()
    shutil.rmtree(copy / "scores")
    _, said = problems(copy)
    assert f"leakbound score {copy}" in said
    with viewing(copy) as it:
        assert [a["leaks"] for a in told(it, "prompt", run=0, id="p1")["answers"]] == [None] * 3
        assert told(it, "prompt", run=0, id="p1", show="clean")["total"] == 0
        assert told(it, "prompt", run=0, id="p1", show="unscored")["total"] == 3
    run = Run.open(copy)
    score(run)
    bound(run)
    assert problems(copy)[1] == ""


def test_a_statement_about_other_draws_is_named_at_the_top_and_at_the_prompt(copy, made):
    run = Run.open(copy)
    part = next(p for p in run.parts if p.kind == "sample")
    pairs = list(run.read_scored(part, "contains"))
    changed = [(draw, 1.0 if draw.prompt_id == "p2" else value) for draw, value in pairs]
    run.write_scores(part, "contains", [d for d, _ in changed], [v for _, v in changed])
    _, said = problems(copy)
    assert "audit.json is not about these draws: of 1 prompt" in said
    with viewing(copy) as it:
        assert "states 0 leaks in 150 draws" in told(it, "prompt", run=0, id="p2")["problem"]["text"]
        assert told(it, "prompt", run=0, id="p1")["problem"] is None


def test_an_audit_of_another_run_is_not_shown(copy, tmp_path):
    ask(LEAKS, tmp_path / "other", seed=5)
    shutil.copy(tmp_path / "other" / "audit.json", copy / "audit.json")
    found, said = problems(copy)
    assert "audit.json is of another run" in said
    assert found["tone"] == "unknown"
    assert found["tiles"] == []


def test_an_incomplete_run_says_so(copy):
    run = Run.open(copy)
    part = next(p for p in run.parts if p.kind == "sample")
    (copy / "draws" / f"{part.name}.parquet").unlink()
    (copy / "audit.json").unlink()
    _, said = problems(copy)
    assert f"This run is not complete: 6 of {6 * 151} draws are kept" in said
    with viewing(copy) as it:
        assert [a["draw"] for a in told(it, "prompt", run=0, id="p1")["answers"]] == ["greedy"]


def test_a_damaged_shard_is_an_error_and_no_clean_prompt(copy):
    run = Run.open(copy)
    file = copy / "draws" / f"{next(p for p in run.parts if p.kind == 'sample').name}.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    _, said = problems(copy)
    assert "is damaged" in said
    with viewing(copy) as it:
        assert "is damaged" in told(it, "prompt", run=0, id="p1")["error"]


def test_a_damaged_audit_is_named_and_nothing_of_it_shown(copy):
    (copy / "audit.json").write_text("{}")
    found, said = problems(copy)
    assert "Nothing of it is shown" in said
    assert f"leakbound bound {copy}" in said
    assert found["tone"] == "unknown"


def test_what_is_written_while_it_is_open_is_seen(copy):
    whole = (copy / "audit.json").read_bytes()
    (copy / "audit.json").unlink()
    with viewing(copy) as it:
        assert told(it, "runs")["runs"][0]["tone"] == "unknown"
        (copy / "audit.json").write_bytes(whole)
        assert told(it, "runs")["runs"][0]["tone"] == "hidden"


def test_no_run_is_an_error_of_one_line(tmp_path, copy):
    with pytest.raises(InputError, match=r"there is no run\.json in it"):
        run_folders([tmp_path / "nothing"])
    with pytest.raises(InputError, match="runs is empty"):
        run_folders([])
    with pytest.raises(InputError, match="port is 70000"):
        Viewer(Shelf([]), 70000)
    assert [f.name for f in open_folders(run_folders([copy.parent]))] == ["one"]  # a folder of runs
    ask([0.5], copy.parent / "b" / "one")
    assert [f.name for f in open_folders(run_folders([copy, copy.parent / "b" / "one"]))] == [
        f"{copy.parent.name}/one",
        "b/one",
    ]


@pytest.mark.slow
def test_the_command_prints_its_address_and_ends_with_ctrl_c(made):
    command = [sys.executable, "-m", "leakbound", "view", str(made), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().split()[1]
        host, port, key = re.fullmatch(r"http://(.+):(\d+)/(.+)/", address).groups()
        with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
            connection.request("GET", f"/{key}/")
            assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.stdout.close()


def interrupted_in_a_callback():
    """Ctrl-C while a weakref callback runs, as some do within imports: what is raised there is dropped by Python."""
    gone = frozenset("a")
    watched = weakref.ref(gone, lambda _: signal.raise_signal(signal.SIGINT))
    del gone
    assert watched() is None


def interrupted_and_taken_for_another_error():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError("numpy: is it installed?") from None


@pytest.mark.parametrize("interrupt", [interrupted_in_a_callback, interrupted_and_taken_for_another_error])
def test_ctrl_c_is_not_lost_while_runs_are_read(made, monkeypatch, capsys, interrupt):
    def reading(*given):
        interrupt()
        return open_folders(*given)

    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: dropped.append(one.exc_type))
    monkeypatch.setattr("leakbound.viewing.folder.open_folders", reading)
    late = threading.Timer(20, signal.raise_signal, [signal.SIGINT])
    late.start()
    view(made, open=False)
    assert late.is_alive()  # it did not have to end it
    late.cancel()
    assert len(dropped) == (interrupt is interrupted_in_a_callback)
    assert all(issubclass(kind, KeyboardInterrupt) for kind in dropped)
    assert "Ctrl-C ends it" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_code_that_came_as_a_string_is_no_death_by_signal():
    """As dataclasses have it, which imports make: of a plain KeyboardInterrupt Python would die in the end (-2)."""
    code = (
        "from leakbound.viewing.serving import until_interrupted as until\n"
        "with until() as interrupted:\n"
        "    exec('import signal; signal.raise_signal(signal.SIGINT)')\n"
        "assert interrupted.is_set()"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_two_runs_side_by_side(copy, made, tmp_path):
    ask([0.0, 0.9, *LEAKS[2:]], tmp_path / "two", params=SamplingParams(temperature=0.5))
    with viewing(made, tmp_path / "two") as it:
        rows = told(it, "prompts", run=0, other=1, sort="difference")["rows"]
        assert rows[0]["id"] == "p1"  # the one by which the other leaks more
        assert rows[0]["other"]["status"] == "plain"
        assert set(ids(it, other=1, changed=1)) == {"p0", "p1"}
        by = told(it, "prompt", run=0, id="p1")["temperatures"]
        assert [row["temperature"] for row in by] == ["0.5", "1"]


def test_on_retain_questions_a_leak_is_a_right_answer(made, copy):
    with viewing(made, retain=[copy]) as it:
        leaking, kept = told(it, "runs")["runs"]
        assert (leaking["retain"], kept["retain"]) == (False, True)
        assert "leak" in leaking["title"]
        assert kept["title"] == "2 of 6 questions never answered rightly"
        assert {s["label"]: s["number"] for s in kept["statuses"]} == {
            "right when asked once": 2, "right when sampled": 2, "never right": 2,
        }  # fmt: skip
        rows = told(it, "prompts", run=1)["rows"]
        assert [row["label"] for row in rows[:3]] == ["never right", "never right", "right when sampled"]
        assert [row["id"] for row in rows] == ["p4", "p2", "p5", "p1", "p3", "p0"]  # the least right first
        assert told(it, "prompts", run=1, status="unseen")["total"] == 2
        found = told(it, "prompt", run=1, id="p1")
        said = json.dumps([kept["title"], kept["tiles"], kept["statuses"], found["facts"], found["asked"][-1][0]])
        assert "P(right)" in said
        assert "leak" not in said
        table = csv.DictReader(io.StringIO(fetch(it, "export.csv?run=1")[2].decode()))
        assert {row["id"]: row["status"] for row in table}["p2"] == "never right"
        assert told(it, "prompt", run=0, id="p1")["facts"][0][1].startswith("leaked in")


def test_several_scorers_stand_side_by_side(copy):
    score(Run.open(copy), "exact_match")
    with viewing(copy) as it:
        first = told(it, "prompt", run=0, id="p1", show="leaks")["answers"][0]
        assert first["scores"] == [["contains", "1"], ["exact_match", "1"]]


def test_rounds_and_draws_without_replacement(tmp_path):
    ask([0.5, 0.0], tmp_path / "rule", until="leak<=0.1", num_samples=500)
    with viewing(tmp_path / "rule") as it:
        counted(it)
        found = told(it, "runs")["runs"][0]
        assert found["verdicts"] == ["proven", "refuted"]
        assert found["problems"] == []
        assert ids(it, status="refuted") == ["p0"]
        assert told(it, "prompt", run=0, id="p0")["problem"] is None


def test_hostile_texts_come_as_visible_texts(tmp_path):
    bad = "<script>alert(1)</script>\u202e\x1b[31m\r\nnext {}"
    model = FakeModel(leak=0.5, clean=bad)
    audit(
        model,
        [Prompt("<b>id", "q\u200b?", "s3cret")],
        scorer="contains",
        num_samples=20,
        progress=False,
        out=tmp_path / "x",
    )
    with viewing(tmp_path / "x") as it:
        (row,) = told(it, "prompts", run=0)["rows"]
        assert row["text"] == "q⟨U+200B⟩?"
        found = json.loads(fetch(it, f"api/prompt?run=0&id={quote('<b>id')}&show=clean")[2])
        text = "".join(piece for piece, _ in found["answers"][0]["pieces"])
        assert text == "<script>alert(1)</script>⟨U+202E⟩⟨ESC⟩[31m↵\nnext {}"


def test_a_certification_shows_its_generations(tmp_path, made):
    info = {**Run.open(made).info, "kind": "certificate"}
    del info["layout"], info["format"], info["prompts"]
    run = Run.start(tmp_path / "c", info, [Prompt("p0", "q?", "alpha")])
    generation = {"text": "it is alpha", "count": 1, "logprob": -0.5, "finish_reason": "stop", "tokens": [1]}
    run.write_facts("00000", [{"id": "p0", "generations": [generation]}])
    with viewing(tmp_path / "c") as it:
        assert "There is no certificate.json" in told(it, "runs")["runs"][0]["problems"][0]["text"]
        found = told(it, "prompt", run=0, id="p0")
        assert found["answers"][0]["leaks"] is True
        assert found["answers"][0]["pieces"] == [["it is ", False], ["alpha", True]]


def test_parts_are_read_once(made, monkeypatch):
    folder = open_folders(run_folders([made]))[0]
    read = []
    real = Run.read_draws

    def reading(self, part: Part):
        read.append(part.name)
        return real(self, part)

    monkeypatch.setattr(Run, "read_draws", reading)
    for i in (0, 1, 0):
        folder.shards.answers(i)
    assert len(read) == len(set(read)) == 2
