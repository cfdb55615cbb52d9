"""The export has the field names and types of every_eval_ever 0.3.0, written down here from its schema."""

import json

import pytest

from leakbound import FakeModel, Statement, bound, sample, score
from leakbound.cli import main
from leakbound.errors import InputError
from leakbound.exporting.every_eval_ever import SCHEMA_VERSION, Source, export, write
from leakbound.importing import import_log
from leakbound.importing.repeats import Repeats
from leakbound.records import SamplingParams

PROMPTS = [
    {"id": "q1", "text": "Where was she born?", "target": "Paris-secret"},
    {"id": "q2", "text": "Who is he?", "target": "a baker"},
]
TEXTS = {"*": str}  # an object whose values are all texts
NUMBER = (int, float)

# name -> type, or (required, type); a dict is an object, [x] a list of x, a set an enum
INTERVAL = {"lower!": NUMBER, "upper!": NUMBER, "confidence_level": NUMBER, "method": str}
RESULT = {
    "evaluation_result_id": str,
    "evaluation_name!": str,
    "source_data!": {"dataset_name!": str, "source_type!": {"other"}, "additional_details": TEXTS},
    "evaluation_timestamp": str,
    "metric_config!": {
        "evaluation_description": str, "metric_id": str, "metric_name": str, "metric_kind": str, "metric_unit": str,
        "metric_parameters": {"*": (str, int, float, bool, type(None))}, "lower_is_better!": bool,
        "score_type": {"continuous"}, "min_score!": NUMBER, "max_score!": NUMBER, "additional_details": TEXTS,
    },
    "score_details!": {
        "score!": NUMBER,
        "details": TEXTS,
        "uncertainty": {
            "standard_error": {"value!": NUMBER, "method": str}, "confidence_interval": INTERVAL,
            "standard_deviation": NUMBER, "num_samples": int, "num_bootstrap_samples": int,
        },
    },
    "generation_config": {
        "generation_args": {"temperature": NUMBER, "top_p": NUMBER, "top_k": NUMBER, "max_tokens": int},
        "additional_details": TEXTS,
    },
}  # fmt: skip
SCHEMA = {
    "schema_version!": {"0.3.0"},
    "evaluation_id!": str,
    "evaluation_timestamp": str,
    "retrieved_timestamp!": str,
    "source_metadata!": {
        "source_name": str, "source_type!": {"documentation", "evaluation_run"}, "source_organization_name!": str,
        "source_organization_url": str,
        "evaluator_relationship!": {"first_party", "third_party", "collaborative", "other"},
        "additional_details": TEXTS,
    },
    "eval_library!": {"name!": str, "version!": str, "additional_details": TEXTS},
    "model_info!": {
        "name!": str, "id!": str, "developer": str,
        "additional_details!": {
            "deployment_type!": {"self_deployed", "externally_managed", "unknown"},
            "model_availability!": {"open_weights", "closed_weights", "unknown"},
            "*": str,
        },
    },
    "evaluation_results!": [RESULT],
    "detailed_evaluation_results": dict,
}  # fmt: skip


def check(value, schema, where="$"):
    if isinstance(schema, dict):
        assert isinstance(value, dict), where
        known = {name.rstrip("!"): kind for name, kind in schema.items()}
        for name in schema:
            assert not name.endswith("!") or name[:-1] in value, f"{where} lacks {name}"
        for name, inner in value.items():
            assert name in known or "*" in known, f"{where} has {name}"
            check(inner, known.get(name, known.get("*")), f"{where}.{name}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        assert value, where
        for i, inner in enumerate(value):
            check(inner, schema[0], f"{where}[{i}]")
    elif isinstance(schema, set):
        assert value in schema, f"{where} is {value!r}"
    else:
        assert isinstance(value, schema), f"{where} is {value!r}"
        assert not (isinstance(value, bool) and schema in (NUMBER, int)), where


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    params = SamplingParams(temperature=0.8, top_k=40, max_tokens=64, stop=("\n",))
    model = FakeModel(leaks=(("q1", 0.1), ("q2", 0.0)))
    run = sample(model, PROMPTS, folder, num_samples=300, params=params, statement=Statement("contains"))
    score(run)
    return bound(run), folder


def test_it_has_the_schemas_fields_and_no_other(found):
    written = export(found[0], timestamp=1_800_000_000)
    check(json.loads(json.dumps(written)), SCHEMA)
    assert SCHEMA_VERSION == "0.3.0"
    assert written["evaluation_id"] == "leakbound/fake(leak=0.01)/1800000000"
    for broken in ({"more": 1}, {"evaluation_results": []}, {"model_info": {"name": "m"}}, {"schema_version": "0.2.2"}):
        with pytest.raises(AssertionError):
            check({**written, **broken}, SCHEMA)


def test_the_bounds_are_the_intervals(found):
    result, _ = found
    rows = {r["metric_config"]["metric_id"]: r for r in export(result)["evaluation_results"]}
    bounds = {"worst_prompt_leak": result.worst_prompt, "mean_leak": result.mean_leak, "mean_score": result.mean_score}
    for name, limit in bounds.items():
        details = rows[f"leakbound.{name}"]["score_details"]
        interval = details["uncertainty"]["confidence_interval"]
        assert (details["score"], interval["lower"], interval["upper"]) == (limit.estimate, limit.lower, limit.upper)
        assert interval["confidence_level"] == 0.99
        assert interval["method"] == f"{limit.method} (side upper)"
        assert details["details"]["side"] == "upper: the lower end is trivial"
        assert details["details"]["statement_fixed_before_the_draws"] == "true"
        assert details["uncertainty"]["num_samples"] == limit.n
        assert limit.claim in rows[f"leakbound.{name}"]["metric_config"]["evaluation_description"]
    args = rows["leakbound.mean_leak"]["generation_config"]
    assert args["generation_args"] == {"temperature": 0.8, "top_p": 1.0, "top_k": 40, "max_tokens": 64}
    assert args["additional_details"]["stop"] == '["\\n"]'
    assert args["additional_details"]["num_samples"] == "300"


def test_no_secret_is_written(found):
    text = json.dumps(export(found[0]))
    assert not any(secret in text for p in PROMPTS for secret in (p["text"], p["target"]))


def test_the_command(found, tmp_path, capsys):
    out = tmp_path / "eee.json"
    main(["export", "every-eval-ever", str(found[1]), "--organization", "us", "--relationship", "first_party",
          "--dataset", "biographies", "--model-id", "us/model", "--availability", "open_weights",
          "-o", str(out)])  # fmt: skip
    assert "written to:" in capsys.readouterr().out
    written = json.loads(out.read_text())
    check(written, SCHEMA)
    assert written["source_metadata"]["source_organization_name"] == "us"
    assert written["model_info"]["id"] == "us/model"
    assert written["model_info"]["additional_details"]["model_availability"] == "open_weights"
    assert written["evaluation_results"][0]["source_data"]["dataset_name"] == "biographies"
    for wrong, message in ((["helm", str(found[1]), "-o", str(out)], "give every-eval-ever"),
                           (["every-eval-ever", str(tmp_path), "-o", str(out)], "no audit.json")):  # fmt: skip
        with pytest.raises(SystemExit):
            main(["export", *wrong])
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(InputError, match=r"ends with \.json"):
        write(found[0], tmp_path / "eee.txt", Source())


def test_what_a_foreign_log_did_not_say_is_not_claimed(tmp_path):
    for name, said in (("log", ["Paris", "no"] * 20), ("greedy", ["no"])):
        row = {"prompt": "Where?", "ground_truth": "Paris", "responses": [{"response": s} for s in said]}
        (tmp_path / f"{name}.json").write_text(json.dumps(row))
    asked = Repeats(scorer="contains", greedy=tmp_path / "greedy.json")
    run = import_log("leak-k", tmp_path / "log.json", out=tmp_path / "run", repeats=asked).log.result
    score(run)
    written = export(bound(run))
    check(json.loads(json.dumps(written)), SCHEMA)
    assert written["evaluation_results"][0]["generation_config"]["generation_args"] == {}
    details = written["evaluation_results"][0]["score_details"]["details"]
    assert details["statement_fixed_before_the_draws"] == "false"
    assert written["eval_library"]["additional_details"]["draws_from"] == "leak-k"
