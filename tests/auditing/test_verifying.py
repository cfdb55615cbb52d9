"""A folder that was tampered with is refused, an honest one accepted, and a hostile one runs nothing."""

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from leakbound import report
from leakbound.auditing.certifying import concluded
from leakbound.auditing.drawing import Statement, sample
from leakbound.auditing.scoring import score
from leakbound.auditing.second import claims
from leakbound.auditing.steps import audit, bound
from leakbound.auditing.verifying import verify
from leakbound.cli import main
from leakbound.models import FakeModel
from leakbound.results.audit import Audit
from leakbound.results.verification import Check, Verification
from leakbound.runs.files import write_json, write_table
from leakbound.runs.store import Run

HOUSE = Path(__file__).resolve().parents[1] / "support" / "first_house"
PROMPTS = [
    {"id": "a", "text": "where?", "target": "in the garden"},
    {"id": "b", "text": "who?", "target": "Ada Fennick", "aliases": ["Ada"]},
    {"id": "c", "text": "when?", "target": "1987"},
]
KINDS = (
    {},
    {"scorer": "contains"},
    {"scorer": "regex:(?i){target}", "threshold": 1.0},
    {"until": "leak<=0.6", "scorer": "contains"},
    {"width": 0.6},
    {"draws_per_shard": 8},
)


def made(folder, i, number=24):
    """An honest folder: small, of one of the kinds of audits, with its own seed and leak rate."""
    model = FakeModel(leak=(i % 7) / 7, clean=f"nothing {i}")
    audit(model, PROMPTS, num_samples=number + i % 5, seed=i, out=folder, progress=False, **KINDS[i % len(KINDS)])
    return folder


def flipped(folder, rng):
    """One bit of one file."""
    file = rng.choice(sorted(f for f in folder.rglob("*") if f.suffix in (".json", ".parquet")))
    data = bytearray(file.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def rewritten(file, change, where):
    """A Parquet file with other rows, sealed again by somebody who knows how."""
    table = pq.read_table(file)
    write_table(file, table.from_pylist(change(table.to_pylist()), schema=table.schema.remove_metadata()), where=where)


def swapped_ids(folder, rng):
    run = Run.open(folder)

    def swap(rows):
        rows[0]["id"], rows[1]["id"] = rows[1]["id"], rows[0]["id"]
        return rows

    rewritten(folder / "prompts.parquet", swap, f"{run.id} prompts")


def other_text(folder, rng):
    """A completion replaced, with its seal: the scores judge other draws."""
    run = Run.open(folder)
    part = rng.choice([p for p in run.parts if run.has_draws(p)])

    def change(rows):
        rng.choice(rows)["text"] += " and more"
        return rows

    rewritten(folder / "draws" / f"{part.name}.parquet", change, f"{run.id} draws {part.name}")


def other_score(folder, rng):
    """One score set to another value, by our own writer."""
    run = Run.open(folder)
    scorer = run.info["statement"]["scorer"]
    part = rng.choice([p for p in run.parts if run.has_draws(p)])
    pairs = list(run.read_scored(part, scorer))
    i = rng.randrange(len(pairs))
    scores = [1 - s if k == i and s != 0.5 else 0.0 if k == i else s for k, (_, s) in enumerate(pairs)]
    run.write_scores(part, scorer, [d for d, _ in pairs], scores)


def other_statement(folder, rng):
    """run.json with another statement, sealed again."""
    info = Run.open(folder).info
    info["statement"][rng.choice(["threshold", "alpha"])] *= 0.9
    write_json(folder / "run.json", info)


def other_number(folder, rng):
    """audit.json with a smaller bound, or another count, saved by our own hand."""
    found = Audit.load(folder)
    name = rng.choice(["leak", "leak_jointly", "mean", "std", "ed_bound", "worst_prompt", "mean_leak", "num_leaks"])
    if hasattr(found, name):
        found = replace(found, **{name: replace(getattr(found, name), upper=getattr(found, name).upper * 0.99)})
    else:
        i = rng.randrange(len(found.prompts))
        old = getattr(found.prompts[i], name)
        new = old + 1 if name == "num_leaks" else replace(old, upper=old.upper * 0.999)
        prompts = [replace(p, **{name: new}) if k == i else p for k, p in enumerate(found.prompts)]
        found = replace(found, prompts=tuple(prompts))
    found.save(folder)


def lost(folder, rng):
    rng.choice(sorted(f for f in folder.rglob("*") if f.suffix in (".json", ".parquet"))).unlink()


TAMPERED = (flipped, swapped_ids, other_text, other_score, other_statement, other_number, lost)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    root = tmp_path_factory.mktemp("honest")
    return [made(root / f"run{i}", i) for i in range(len(KINDS))]


@pytest.mark.slow
def test_honest_folders_are_accepted(honest):
    for folder in honest:
        found = verify(folder)
        assert found.accepted, str(found)
        assert [c.what for c in found.checks] == [
            "run.json and prompts", "draws", "scores made again", "audit.json made again",
            *claims.CHECKS,
        ]  # fmt: skip
        assert all(c.number for c in found.checks)


def test_what_was_not_checked_is_not_called_right(honest):
    found = verify(honest[0])
    assert report.document_of(found).lead == ("Everything was checked and is right.",)
    nothing = replace(found, checks=(*found.checks, Check("what nobody looked at", 0)))
    assert not nothing.accepted
    assert report.document_of(nothing).lead == ("Something is wrong, or could not be checked.",)
    assert list(nothing.rows())[-1]["found"] == "not checked: nothing of this kind is here"


@pytest.mark.slow
@pytest.mark.parametrize("tamper", TAMPERED)
def test_tampered_folders_are_refused(honest, tmp_path, tamper):
    for i, folder in enumerate(honest):
        copy = shutil.copytree(folder, tmp_path / f"{i}")
        tamper(copy, random.Random(i))
        assert not verify(copy).accepted, (tamper.__name__, i)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, int(os.environ.get("FOLDERS", "10")), 10))
def test_200_of_200_tampered_folders_are_refused_and_200_of_200_honest_ones_accepted(tmp_path, start):
    """With FOLDERS=200 in the environment all of them; 10 in make test."""
    refused = accepted = 0
    for i in range(start, start + 10):
        folder = made(tmp_path / f"{i}", i)
        accepted += verify(folder).accepted
        TAMPERED[i % len(TAMPERED)](folder, random.Random(i))
        refused += not verify(folder).accepted
        shutil.rmtree(folder)
    assert (accepted, refused) == (10, 10)


def test_a_certification_is_checked_too(tmp_path):
    """The facts of a folder of version 0.1, stored as today: concluded from again, refused where they were changed."""
    old = Run.open(HOUSE / "format2" / "certificate")
    facts = [fact for file in sorted((old.path / "facts").iterdir()) for fact in old.read_facts(file.stem)]
    info = {k: v for k, v in old.info.items() if k not in ("format", "layout")}
    run = Run.start(tmp_path / "run", info, old.prompts)
    run.write_facts("00000", facts)
    concluded(run).save(run.path)
    assert verify(run.path).accepted, str(verify(run.path))
    facts[0]["generations"][0]["logprob"] -= 0.5
    run.write_facts("00000", facts)
    assert "certificate.json says otherwise than the folder's files" in str(verify(run.path))
    run.write_facts("00000", facts[1:])
    assert not verify(run.path).accepted


def test_every_method_and_a_statement_of_afterwards_are_made_again(honest, tmp_path):
    folder = shutil.copytree(honest[0], tmp_path / "run")
    bound(Run.open(folder), method="paper")
    assert verify(folder).accepted
    score(Run.open(folder), "contains")
    bound(Run.open(folder), scorer="contains", threshold=0.7, alpha=0.05)
    assert verify(folder).accepted
    found = Audit.load(folder)
    replace(found, planned=True).save(folder)
    assert "planned is True, made again False" in str(verify(folder))


def test_a_scorer_that_is_not_built_in_is_not_run_until_it_is_named(tmp_path, monkeypatch):
    """X1. What cannot be checked is not accepted."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "verified_scorer.py").write_text(
        "def mine(completion, target): return 0.25 + 0.5 * (target in completion)\n"
    )
    run = sample(FakeModel(), PROMPTS, tmp_path / "run", num_samples=8, statement=Statement("verified_scorer:mine"))
    score(run)
    bound(run)
    assert "which is not built in" in str(verify(run.path))
    assert verify(run.path, scorer="verified_scorer:mine").accepted


def test_old_folders_are_unverified_and_missing_ones_refused(tmp_path):
    assert "format 2 has no checksums" in str(verify(HOUSE / "format2" / "audit"))
    assert "there is no run.json in it" in str(verify(tmp_path))


def test_the_command_says_what_was_checked_and_ends_with_1(honest, tmp_path, capsys):
    main(["verify", str(honest[0])])
    assert capsys.readouterr().out.strip().startswith("Accepted: ")
    folder = shutil.copytree(honest[0], tmp_path / "run")
    other_number(folder, random.Random(0))
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(folder)])
    assert ended.value.code == 1
    assert capsys.readouterr().out.strip().startswith("Refused: ")


def test_a_verification_is_a_result(honest, tmp_path):
    found = verify(honest[0])
    assert Verification.load(found.save(tmp_path)) == found
    assert json.loads((tmp_path / "verification.json").read_text())["checks"][0]["wrong"] == ""
    assert str(found).startswith("accepted: ")
    assert len(found.to_frame()) == 8
