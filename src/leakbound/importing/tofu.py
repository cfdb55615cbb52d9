"""TOFU's own evaluation logs: ``eval_log_aggregated.json``, one object for each set, metric -> {index: value}.

The values were measured on likelihoods and on one greedy answer for each question. ROUGE is recomputed from the stored
answers, so that the log says whether it fits together.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leakbound.errors import InputError
from leakbound.importing.imported import Imported
from leakbound.importing.values import aligned, entry, numbers, questions_of
from leakbound.metrics.questions import QuestionSet
from leakbound.reading.parsing import read_json
from leakbound.results.evaluation import Evaluation
from leakbound.scoring.lexical import rouge_1, rouge_l

FILE = "eval_log_aggregated.json"
SETS = {
    "eval_log_forget.json": "forget",
    "eval_log.json": "retain",
    "eval_real_author_wo_options.json": "real_authors",
    "eval_real_world_wo_options.json": "world_facts",
}
NEEDED = {
    "avg_gt_loss": "answer_loss",
    "avg_paraphrased_loss": "paraphrase_loss",
    "average_perturb_loss": "perturbed_loss",
    "rougeL_recall": "rouge_l_recall",
}
FURTHER = {"rouge1_recall": "rouge1_recall", "num_token_gt": "answer_tokens"}


def read(path: Path) -> Imported:
    """The evaluation in a log, or in the folder that holds it; the model is called as that folder.

    :raises InputError: a set, metric or question is missing, the indices have gaps, the JSON is broken.
    """
    file = path / FILE if path.is_dir() else path
    data = read_json(file)
    sets = {name: _questions(entry(data, key, str(file)), name, f"{file}: {key}") for key, name in SETS.items()}
    evaluation = Evaluation(file.resolve().parent.name, "tofu", sets)
    return Imported(evaluation, recomputed(list(sets.values())))


def _questions(log: Mapping[str, Any], name: str, where: str) -> QuestionSet:
    first = entry(log, "avg_gt_loss", where)
    ids = questions_of(first)
    for i, key in enumerate(ids):
        if key != str(i):
            raise InputError(f"{where}: avg_gt_loss has no question '{i}': the indices must run from 0 without a gap")
    metrics = {**NEEDED, **{key: value for key, value in FURTHER.items() if key in log}}
    values = {
        value: np.array(numbers(entry(log, key, where), ids, f"{where}: {key}"), dtype=np.float64)
        for key, value in metrics.items()
    }
    texts: tuple[tuple[str, str, str], ...] = ()
    if "generated_text" in log:
        stored = entry(log, "generated_text", where)
        aligned(stored, ids, f"{where}: generated_text")
        texts = tuple(_texts(stored[key], f"{where}: generated_text: question {key!r}") for key in ids)
    try:
        return QuestionSet(name, ids, values, texts)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _texts(value: Any, where: str) -> tuple[str, str, str]:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(text, str) for text in value):
        raise InputError(f"{where} is {value!r:.80}: not [prompt, generation, ground truth]")
    return value[0], value[1], value[2]


def recomputed(sets: Sequence[QuestionSet]) -> tuple[str, ...]:
    """How many of the stored ROUGE values equal those of the stored answers, and by how much the others differ."""
    notes = []
    for value, scorer in (("rouge_l_recall", rouge_l), ("rouge1_recall", rouge_1)):
        gaps = {
            questions.name: [
                abs(stored - scorer(generation, target))
                for stored, (_, generation, target) in zip(questions.values[value], questions.generations, strict=True)
            ]
            for questions in sets
            if value in questions.values and questions.generations
        }
        total = sum(map(len, gaps.values()))
        if not total:
            continue
        equal = {name: sum(gap == 0 for gap in found) for name, found in gaps.items()}
        notes.append(f"{value} recomputed from the stored answers: {sum(equal.values()):,} of {total:,} equal")
        notes += [
            f"{value}, {name}: {len(found) - equal[name]} of {len(found)} differ, by at most {max(found):.6f}"
            for name, found in gaps.items()
            if equal[name] < len(found)
        ]
    return tuple(notes)
