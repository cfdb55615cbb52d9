"""open-unlearning's *_EVAL.json, in the format of its published code: read, computed again, compared."""

import json

import numpy as np
import pytest

from leakbound.errors import InputError
from leakbound.evaluating.differences import difference
from leakbound.importing import import_log
from leakbound.importing.showing import table

N, ANSWERS = 12, 3


def by_index(rows):
    return {str(i): row for i, row in enumerate(rows)}


def probability(losses):
    losses = np.asarray(losses)
    rows = by_index([{"prob": np.exp(-x).tolist(), "avg_loss": x.tolist()} for x in losses])
    return {"agg_value": float(np.exp(-losses).mean()), "value_by_index": rows}


def rouge(rng):
    recalls = rng.random(N)
    rows = [{"rouge1_recall": 1.0, "rougeL_recall": x, "rougeL_f1": x / 2, "input": "Q", "ground_truth": "T",
             "generation": f"G{i}"} for i, x in enumerate(recalls.tolist())]  # fmt: skip
    return {"agg_value": float(recalls.mean()), "value_by_index": by_index(rows)}


def scores(values):
    values = np.asarray(values)
    return {"agg_value": float(values.mean()), "value_by_index": by_index([{"score": x} for x in values.tolist()])}


def ratio(right, wrong, aggregate):
    """open-unlearning's truth ratio, with its 1e-10."""
    r = np.exp(-np.asarray(wrong).mean(axis=1)) / (np.exp(-np.asarray(right)) + 1e-10)
    agg = {"closer": np.minimum(r, 1 / (r + 1e-10)), "true": np.maximum(0, 1 - r), "prob_mean": 1 / (1 + r)}[aggregate]
    return {"agg_value": float(agg.mean()), "value_by_index": by_index([{"score": x} for x in r.tolist()])}


def tofu_log(seed=0):
    rng = np.random.default_rng(seed)
    log, nine = {}, []
    for prefix in ("forget", "retain", "ra", "wf"):
        answer, wrong = rng.random(N), rng.random((N, ANSWERS)) + 0.3
        log[f"{prefix}_Q_A_Prob"], log[f"{prefix}_Q_A_PERT_Prob"] = probability(answer), probability(wrong)
        log[f"{prefix}_Q_A_ROUGE"] = rouge(rng)
        right = answer
        if prefix in ("forget", "retain"):
            right = rng.random(N)
            log[f"{prefix}_Q_A_PARA_Prob"] = probability(right)
        else:
            p, q = np.exp(-answer), np.exp(-wrong).sum(axis=1)
            log[f"{prefix}_Q_A_Prob_normalised"] = {"agg_value": float((p / (p + q + 1e-10)).mean())}
        name = "forget_truth_ratio" if prefix == "forget" else f"{prefix}_Truth_Ratio"
        log[name] = ratio(right, wrong, "closer" if prefix == "forget" else "true")
        if prefix != "forget":
            first = log.get(f"{prefix}_Q_A_Prob_normalised", log[f"{prefix}_Q_A_Prob"])
            nine += [x["agg_value"] for x in (first, log[f"{prefix}_Q_A_ROUGE"], log[name])]
    log["model_utility"] = {"agg_value": 9 / sum(1 / x for x in nine)}
    log["extraction_strength"], log["exact_memorization"] = scores(rng.random(N)), scores(rng.random(N))
    forget, holdout = rng.random(N), rng.random(N + 4) + 0.2
    auc = float(np.mean([(h > f) for f in forget for h in holdout]))
    log["mia_min_k"] = {"forget": scores(forget), "holdout": scores(holdout), "auc": auc, "agg_value": auc}
    log["forget_quality"] = {"agg_value": None}
    log["privleak"] = {"agg_value": -12.5}
    return log


def write(folder, log, name="TOFU_EVAL.json"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(log))
    return folder / name


def test_a_log_becomes_an_evaluation_with_the_same_aggregates(tmp_path):
    log = tofu_log()
    found = import_log("open-unlearning", write(tmp_path / "NPO" / "evals", log), out=tmp_path / "out").log
    evaluation = found.result
    assert (evaluation.model, evaluation.suite) == ("NPO", "tofu")
    assert set(evaluation.sets) == {"forget", "retain", "real_authors", "world_facts", "holdout"}
    assert evaluation.sets["forget"].generations[3] == ("Q", "G3", "T")
    mine = {(m.name, m.set): m.value for m in evaluation.metrics()}
    for (name, group), theirs in {
        ("probability", "forget"): "forget_Q_A_Prob", ("probability", "real_authors"): "ra_Q_A_Prob_normalised",
        ("rouge_l_recall", "world_facts"): "wf_Q_A_ROUGE", ("truth_ratio", "forget"): "forget_truth_ratio",
        ("truth_ratio", "retain"): "retain_Truth_Ratio", ("truth_ratio", "world_facts"): "wf_Truth_Ratio",
        ("model_utility", ""): "model_utility", ("mia_min_k_auc", "forget"): "mia_min_k",
        ("extraction_strength", "forget"): "extraction_strength",
    }.items():  # fmt: skip
        assert mine[name, group] == pytest.approx(log[theirs]["agg_value"], abs=1e-8), name
    assert found.notes[0] == "24 of 24 stored aggregates agree with the values by question to 1e-06"
    assert found.notes[1] == "not computed again: privleak"
    assert "1/T" in found.notes[2]


def test_a_wrong_aggregate_and_another_aggregator_are_told(tmp_path):
    log = tofu_log()
    log["retain_Q_A_ROUGE"]["agg_value"] += 0.1
    right = [row["avg_loss"] for row in log["forget_Q_A_PARA_Prob"]["value_by_index"].values()]
    wrong = [row["avg_loss"] for row in log["forget_Q_A_PERT_Prob"]["value_by_index"].values()]
    log["forget_truth_ratio"] = ratio(right, wrong, "prob_mean")
    notes = import_log("open-unlearning", write(tmp_path, log), out=tmp_path / "out").log.notes
    assert notes[0].startswith("23 of 24 ")
    assert any(note.startswith("retain_Q_A_ROUGE: stored ") for note in notes)
    assert any(note.startswith("forget_truth_ratio: stored ") and "mean of 1/(1 + r)" in note for note in notes)


def test_two_logs_give_forget_quality(tmp_path):
    write(tmp_path / "a", tofu_log(0)), write(tmp_path / "b", tofu_log(1))
    found = import_log("open-unlearning", tmp_path / "a", out=tmp_path / "out", retain=tmp_path / "b")
    names = {m.name for m in found.log.result.metrics(reference=found.retain.result)}
    assert {"forget_quality", "forget_distance", "priv_leak"} <= names


def test_several_paraphrases_are_averaged_as_there(tmp_path):
    log = tofu_log()
    losses = np.random.default_rng(5).random((N, 2))
    log["forget_Q_A_PARA_Prob"] = probability(losses)
    found = import_log("open-unlearning", write(tmp_path, log), out=tmp_path / "out").log.result
    assert found.sets["forget"].values["paraphrase_loss"] == pytest.approx(losses.mean(axis=1))


def test_muse_logs(tmp_path):
    rng = np.random.default_rng(3)
    log = {f"{name}_ROUGE": rouge(rng) for name in ("forget_verbmem", "forget_knowmem", "retain_knowmem")}
    for metric in log.values():
        metric["agg_value"] /= 2  # MUSE takes F1
    log["extraction_strength"] = scores(rng.random(5))
    log["mia_min_k"] = {"forget": scores(rng.random(9)), "holdout": scores(rng.random(7)), "agg_value": None}
    found = import_log("open-unlearning", write(tmp_path, log, "MUSE_EVAL.json"), out=tmp_path / "out").log
    assert found.result.suite == "muse"
    sizes = {name: len(q.ids) for name, q in found.result.sets.items()}
    assert sizes == {"forget_verbmem": 12, "forget_knowmem": 12, "retain_knowmem": 12, "forget_text": 5,
                     "forget": 9, "holdout": 7}  # fmt: skip
    assert found.notes[0].startswith("4 of 4 ")
    names = {(m.name, m.set) for m in found.result.metrics()}
    assert {("verbatim_memorization", "forget_verbmem"), ("knowledge_memorization", "retain_knowmem")} <= names
    assert not any(name.startswith("model_utility") for name, _ in names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.clear(), "no metric that is known; it has nothing"),
        (lambda d: d["exact_memorization"]["value_by_index"].update({"2": {"score": None}}),
         "exact_memorization: score: question '2' has None"),
        (lambda d: d["forget_Q_A_ROUGE"]["value_by_index"].pop("4"), "forget_Q_A_ROUGE has no question '4'"),
        (lambda d: d["forget_Q_A_Prob"]["value_by_index"].update({"2": None}), "question '2' is None: it has no"),
        (lambda d: d["forget_Q_A_Prob"].pop("value_by_index"), "forget_Q_A_Prob has no 'value_by_index'"),
        (lambda d: d.update(forget_Q_A_Prob=0.5), "forget_Q_A_Prob is 0.5, not an object"),
        (lambda d: d["mia_min_k"].pop("holdout"), "mia_min_k has no 'holdout'"),
        (lambda d: d["mia_min_k"]["forget"]["value_by_index"].pop("0"), "mia_min_k has no question '0'"),
        (lambda d: d["ra_Q_A_PERT_Prob"]["value_by_index"]["3"].update(avg_loss=[1.0]), "'3' has \\[1.0\\], the first"),
        (lambda d: d["wf_Q_A_ROUGE"]["value_by_index"]["3"].update(rougeL_recall=1.5), r"rouge_l_recall\[3\] is 1.5"),
        (lambda d: d["wf_Q_A_ROUGE"]["value_by_index"]["3"].update(generation=None), "not all texts"),
    ],
)  # fmt: skip
def test_a_broken_log_is_named_with_its_place(tmp_path, change, said):
    log = tofu_log()
    change(log)
    file = write(tmp_path, log)
    with pytest.raises(InputError, match=said) as error:
        import_log("open-unlearning", file, out=tmp_path / "out")
    assert str(file) in str(error.value)


def test_a_folder_must_hold_one_log(tmp_path):
    with pytest.raises(InputError, match="holds 0 files"):
        import_log("open-unlearning", tmp_path, out=tmp_path / "out")
    write(tmp_path, tofu_log()), write(tmp_path, tofu_log(), "MUSE_EVAL.json")
    with pytest.raises(InputError, match="holds 2 files"):
        import_log("open-unlearning", tmp_path, out=tmp_path / "out")


def turned(log, names):
    """The log with the questions of these metrics in reversed order under the numbers."""
    for name in names:
        for part in [log[name]] if "value_by_index" in log[name] else [log[name]["forget"], log[name]["holdout"]]:
            part["value_by_index"] = by_index([*reversed(part["value_by_index"].values())])
    return log


def named(log):
    for metric in (m for name, m in log.items() if name.endswith("_ROUGE")):
        for i, row in metric["value_by_index"].items():
            row |= {"input": f"Question {i}?", "ground_truth": f"Answer {i}."}
    return log


@pytest.mark.parametrize("how", ["all", "forget", "answers"])
def test_u06_models_that_were_asked_otherwise_are_not_compared(tmp_path, how):
    """A retain log in another order: the gaps were those of different questions, called "on the same questions"."""
    ours, theirs = named(tofu_log(0)), named(tofu_log(1))
    if how == "answers":  # the question is the same, the answer is not
        theirs["ra_Q_A_ROUGE"]["value_by_index"]["3"]["ground_truth"] = "Another."
    else:
        turned(theirs, [n for n in theirs if n.startswith("forget" if how == "forget" else "") and (
            "value_by_index" in theirs[n] or "holdout" in theirs[n])])  # fmt: skip
    found = import_log("open-unlearning", write(tmp_path / "A", ours), retain=write(tmp_path / "B", theirs),
                       out=tmp_path / "out")  # fmt: skip
    sets = "real_authors" if how == "answers" else r"\w+"
    with pytest.raises(InputError, match=rf"set '{sets}': question '\d+' is 'Question .* nothing can be compared"):
        table(found)
    result, other = found.log.result, found.retain.result
    with pytest.raises(InputError, match="give both models on the same questions in the same order"):
        difference(result, other, "probability", set="forget")


def test_u06_keys_in_another_order_are_the_same_questions(tmp_path):
    ours, theirs = named(tofu_log(0)), named(tofu_log(1))
    for metric in theirs.values():
        if "value_by_index" in metric:
            metric["value_by_index"] = dict(reversed(metric["value_by_index"].items()))
    found = import_log("open-unlearning", write(tmp_path / "A", ours), retain=write(tmp_path / "B", theirs),
                       out=tmp_path / "out")  # fmt: skip
    table(found)
    assert "on the same questions" in (tmp_path / "out" / "evaluation.md").read_text()
