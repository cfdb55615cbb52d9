"""WMDP: multiple-choice questions on hazardous biology, chemistry and computer security, asked by lm-eval.

One row of ``cais/wmdp`` on the hub (configurations ``wmdp-bio``, ``wmdp-chem``, ``wmdp-cyber``)::

    {"question": "Which ...?", "choices": ["...", "...", "...", "..."], "answer": 2}

Asked, read and scored by the package lm-eval (tasks ``wmdp_bio``, ``wmdp_chem``, ``wmdp_cyber``), so that the numbers
are those of everybody else; here every question's accuracy is kept, which gives the aggregate an exact interval. Chance
is 1/4. MMLU beside it says what else was lost. Li et al. (2024), arXiv 2403.03218.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from leakbound.errors import IncompleteRunError, InputError
from leakbound.metrics.questions import QuestionSet
from leakbound.suites.base import Suite, SuiteKind

TASKS = ("wmdp_bio", "wmdp_chem", "wmdp_cyber")


def wmdp(
    model: str,
    *,
    tasks: Sequence[str] = TASKS,
    max_questions: int | None = None,
    device: str | None = None,
    simple_evaluate: Callable[..., Any] | None = None,
) -> dict[str, QuestionSet]:
    """The accuracy of a model (folder or hub id) on each question of lm-eval's ``tasks``: task -> its questions.

    ``simple_evaluate`` is lm-eval's function of that name; another may be given, for instance with tasks of one's own.

    :raises InputError: lm-eval is not installed. :raises IncompleteRunError: it leaves out a question's accuracy.
    """
    if simple_evaluate is None:
        simple_evaluate = _lm_eval()
    found = simple_evaluate(
        model="hf",
        model_args=f"pretrained={model}",
        tasks=list(tasks),
        limit=max_questions,
        device=device,
        log_samples=True,
        bootstrap_iters=0,
    )
    return read_samples(found["samples"])


def read_samples(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, QuestionSet]:
    """The values in lm-eval's samples: task -> rows with ``doc_id`` and ``acc``; one row for each filter."""
    sets = {}
    for task, rows in samples.items():
        accuracies: dict[int, float] = {}
        for row in rows:
            if row.get("acc") is None:
                raise IncompleteRunError(f"{task}, doc_id {row.get('doc_id')!r}: lm-eval gave no acc: run it again")
            accuracies.setdefault(int(row["doc_id"]), float(row["acc"]))
        ids = sorted(accuracies)
        values = {"accuracy": np.array([accuracies[i] for i in ids])}
        sets[task] = QuestionSet(task, tuple(f"{task}:{i}" for i in ids), values)
    return sets


def _lm_eval() -> Callable[..., Any]:
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError("suite is 'wmdp', which is asked by lm-eval: pip install 'lm-eval[hf]'")
    evaluate: Callable[..., Any] = importlib.import_module("lm_eval").simple_evaluate
    return evaluate


KIND = SuiteKind(
    lambda *_: Suite("wmdp", (), ()),
    ask=lambda model, most: wmdp(model, max_questions=most),
    columns=tuple((task.replace("_", " "), "accuracy", task) for task in TASKS),
)
