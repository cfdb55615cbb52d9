"""What builds read of a check: the schema, JUnit XML, GitHub's commands, the recipes, and the plug-in of pytest."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from forked import forked

from leakbound.exporting.ci import to_annotations, to_junit
from leakbound.results.check import Asked, Finding, Verdicts

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "check.schema.json").read_text())
SAMPLER = "from leakbound import FakeModel\nclean, leaky = FakeModel(leak=0.0), FakeModel(leak=0.2)\n"
POLICY = "model: models:{}\nalpha: 0.01\nclaims:\n  - {{prompts: p.jsonl, claim: 'leak<=0.01', scorer: contains}}\n"


def finding(verdict="refuted", name="x", model="m", texts="p1"):
    worst = (Asked(texts, verdict, 3, 9, 0.7),)
    return Finding(name, model, "P(leak) <= 0.1", 0.01, verdict, 0.7, False, 2, 18, 0.25, {"max_tokens": 8}, worst, "r")


HOSTILE = "</failure><b>&\x1b[31m\x00\ud800\r\n::error::,:%0A"


def test_junit_counts_and_any_text_is_text():
    found = Verdicts("p", 0.01, tuple(finding(v, HOSTILE, HOSTILE, HOSTILE) for v in ("proven", "refuted", "open")))
    suite = ElementTree.fromstring(to_junit(found))
    assert {name: suite.get(name) for name in ("tests", "failures", "errors")} == dict.fromkeys(
        ("failures", "errors"), "1"
    ) | {"tests": "3"}
    assert [[child.tag for child in case] for case in suite.iter("testcase")] == [
        ["system-out"], ["failure", "system-out"], ["error", "system-out"],
    ]  # fmt: skip
    assert "</failure><b>&" in suite.find("testcase/failure").text


def test_an_annotation_is_one_line_that_ends_nothing_early():
    said = to_annotations(Verdicts("p", 0.01, (finding(name=HOSTILE, texts=HOSTILE),)))
    assert len(said.splitlines()) == 1
    assert said.startswith("::error title=")
    title = said.split("::")[1]
    assert "," not in title.removeprefix("error title=")
    assert "%250A" in said


def test_the_schema_is_that_of_what_is_written(tmp_path):
    found = Verdicts("p", 0.01, tuple(finding(v) for v in ("proven", "refuted", "open")))
    written = json.loads(found.save(tmp_path).read_text())
    jsonschema.validate(written, SCHEMA)
    assert Verdicts.load(tmp_path) == found
    assert set(SCHEMA["$defs"]["finding"]["required"]) == set(written["findings"][0])
    for change in ({"exit_code": 2}, {"verdict": "fine"}, {"more": 1}, {"findings": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(written | change, SCHEMA)


@pytest.fixture
def place(tmp_path):
    rows = [{"id": f"p{i}", "text": f"question {i}?", "target": f"secret {i}"} for i in range(12)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "models.py").write_text(SAMPLER)
    for kind in ("clean", "leaky"):
        (tmp_path / f"{kind}.yaml").write_text(POLICY.format(kind))
    return tmp_path


def run(place, script, **more):
    """A script of a recipe, as a runner runs it; the command is that of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {**os.environ, "PATH": path, "PYTHONPATH": str(place), "INSTALL": "", "OUT": "out", **more}
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=place, env=given, capture_output=True, text=True, timeout=200
    )


@pytest.mark.slow
def test_the_action_fails_and_passes_a_job(place):
    action = yaml.safe_load((ROOT / "recipes/ci/action.yml").read_text())
    steps = action["runs"]["steps"]
    for step in steps:
        for name, value in step["env"].items():
            assert value == "${{ inputs.%s }}" % name.lower()  # noqa: UP031 - and no input stands in a script
        assert "${{" not in step["run"]
    usual = {name.upper(): value["default"] for name, value in action["inputs"].items()} | {"INSTALL": "", "OUT": "out"}
    script = "\n".join(step["run"] for step in steps)
    for model, code in (("models:clean", 0), ("", 1)):  # in place of the policy's own, and that one
        given = {"POLICY": "leaky.yaml", "MODEL": model, "GITHUB_ACTIONS": "true"}
        done = run(place, script, **usual | given)
        assert done.returncode == code, done.stderr
        assert ("::error" in done.stdout) == (code == 1)
        assert ElementTree.parse(place / "out/junit.xml").getroot().get("failures") == str(code)


@pytest.mark.slow
def test_the_template_of_gitlab_does_so_too(place):
    job = yaml.safe_load((ROOT / "recipes/ci/gitlab.yml").read_text())["leakbound"]
    assert "allow_failure" not in job  # an undecided claim, or a lost draw, passes nobody
    done = run(place, "\n".join([*job["before_script"], *job["script"]]), POLICY="leaky.yaml")
    assert done.returncode == 1, done.stderr
    assert (place / job["artifacts"]["reports"]["junit"]).exists()


@pytest.mark.slow
def test_pytest_fails_where_a_model_leaks_and_names_the_prompts(place):
    (place / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('model', ['clean', 'leaky'])\n"
        "def test_secrets(leakbound, model):\n"
        "    leakbound.assert_leak(f'models:{model}', 'p.jsonl', 'leak<=0.01', scorer='contains')\n"
    )

    def alone():
        os.chdir(place)
        sys.path.insert(0, str(place))
        sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "test_it.py"]))

    ((code, said),) = forked(alone)
    assert code == 1, said
    assert "1 failed, 1 passed" in said
    assert "P(leak) <= 0.01 for every one of 12 prompts at once: refuted" in said
    assert "prompt p" in said
