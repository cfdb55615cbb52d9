"""open-unlearning's logs: ``TOFU_EVAL.json``, ``MUSE_EVAL.json``; metric -> agg_value and value_by_index.

The format as its published code writes it: a probability has ``prob`` and ``avg_loss`` for each question (lists where
there are several answers), a ROUGE metric ``rouge1_recall``, ``rougeL_recall``, ``rougeL_f1``, ``input``,
``ground_truth`` and ``generation``, a memorization metric ``score``, an attack ``forget`` and ``holdout`` with a
``score`` for each question. Every stored aggregate that can be is computed again and compared.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from leakbound.errors import InputError
from leakbound.importing.aggregates import PREFIXES, attack_in_log, recomputed
from leakbound.importing.imported import Imported
from leakbound.importing.values import aligned, entry, numbers, questions_of
from leakbound.metrics.questions import ATTACKS, QuestionSet
from leakbound.reading.parsing import read_json
from leakbound.results.evaluation import Evaluation

_ROUGE = (("rougeL_recall", "rouge_l_recall"), ("rouge1_recall", "rouge1_recall"), ("rougeL_f1", "rouge_l_f1"))
_SCORES = ("extraction_strength", "exact_memorization")


def sources(tofu: bool) -> Iterator[tuple[str, str, str, str]]:
    """(metric, field, set, value): where each value of each set stands in a log."""
    for prefix, name in PREFIXES.items():
        if tofu:
            yield f"{prefix}_Q_A_Prob", "avg_loss", name, "answer_loss"
            yield f"{prefix}_Q_A_PARA_Prob", "avg_loss", name, "paraphrase_loss"
            yield f"{prefix}_Q_A_PERT_Prob", "avg_loss", name, "perturbed_loss"
            yield from ((f"{prefix}_Q_A_ROUGE", field, name, value) for field, value in _ROUGE)
        for kind, value in (("verbmem", "verbatim_memorization"), ("knowmem", "knowledge_memorization")):
            yield f"{prefix}_{kind}_ROUGE", "rougeL_f1", f"{prefix}_{kind}", value
    for metric in _SCORES:
        # MUSE measures them on passages that are not those of its membership attacks
        yield metric, "score", "forget" if tofu else "forget_text", metric
        yield f"retain_{metric}", "score", "retain", metric


def read(path: Path) -> Imported:
    """The evaluation in a log, or in the folder that holds one.

    :raises InputError: no metric that is known, a question without a value, a null, broken JSON.
    """
    file = _find(path)
    data = read_json(file)
    tofu = any(f"{prefix}_Q_A_Prob" in data for prefix in PREFIXES)
    by_set: dict[str, dict[str, tuple[str, Mapping[str, Any], str]]] = {}
    for metric, field, name, value in sources(tofu):
        if metric in data:
            by_set.setdefault(name, {})[value] = (metric, _by_index(data[metric], f"{file}: {metric}"), field)
    for value in ATTACKS:
        metric = attack_in_log(value)
        for name in ("forget", "holdout"):
            if metric in data:
                where = f"{file}: {metric}"
                split = entry(_object(data[metric], where), name, where)
                by_set.setdefault(name, {})[value] = (metric, _by_index(split, f"{where}: {name}"), "score")
    if not by_set:
        raise InputError(f"{file} holds no metric that is known; it has {', '.join(map(repr, data)) or 'nothing'}")
    sets = {name: _questions(name, values, str(file)) for name, values in by_set.items()}
    folder = file.resolve().parent
    model = folder.parent.name if folder.name == "evals" else folder.name
    evaluation = Evaluation(model, file.name.removesuffix("_EVAL.json").lower(), sets)
    return Imported(evaluation, recomputed(evaluation, data))


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*_EVAL.json"))
    if len(found) != 1:
        raise InputError(f"path is {str(path)!r}: it holds {len(found)} files *_EVAL.json; name one")
    return found[0]


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r:.60}, not an object")
    return value


def _by_index(metric: Any, where: str) -> Mapping[str, Any]:
    return entry(_object(metric, where), "value_by_index", where)


def _questions(name: str, values: Mapping[str, tuple[str, Mapping[str, Any], str]], file: str) -> QuestionSet:
    _, first, _ = next(iter(values.values()))
    ids = questions_of(first)
    found: dict[str, np.ndarray[Any, np.dtype[np.float64]]] = {}
    texts: tuple[tuple[str, str, str], ...] = ()
    for value, (metric, by_index, field) in values.items():
        where = f"{file}: {metric}"
        aligned(by_index, ids, where)
        picked = {key: _field(row, field, f"{where}: question {key!r}") for key, row in by_index.items()}
        array = np.array(numbers(picked, ids, f"{where}: {field}"), dtype=np.float64)
        found[value] = _shaped(array, several=value == "perturbed_loss")
        if metric.endswith("_ROUGE") and all("generation" in by_index[key] for key in ids):
            texts = tuple(_texts(by_index[key], f"{where}: question {key!r}") for key in ids)
    try:
        return QuestionSet(name, ids, found, texts)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _field(row: Any, field: str, where: str) -> Any:
    if not isinstance(row, dict) or field not in row:
        raise InputError(f"{where} is {row!r:.80}: it has no {field!r}, and a missing value cannot be left out")
    return row[field]


def _shaped(array: np.ndarray[Any, np.dtype[np.float64]], *, several: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n, k) where there are several answers, else (n,): open-unlearning averages the losses of several paraphrases."""
    if several:
        return array.reshape(len(array), -1)
    averaged: np.ndarray[Any, np.dtype[np.float64]] = array.reshape(len(array), -1).mean(axis=1)
    return averaged


def _texts(row: Mapping[str, Any], where: str) -> tuple[str, str, str]:
    texts = tuple(_field(row, field, where) for field in ("input", "generation", "ground_truth"))
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: input, generation and ground_truth are not all texts")
    return texts[0], texts[1], texts[2]
