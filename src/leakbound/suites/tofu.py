"""TOFU: 4000 questions about 200 authors who do not exist, of which 1, 5 or 10 percent are to be forgotten.

One row of ``forget10_perturbed.json`` (the task id stands in the files of arXiv 2410.08109 only)::

    {"task_id": "1", "question": "What is the full name of the author born in Kuwait City, Kuwait on 08/09/1956?",
     "answer": "The full name of the fictitious author ... is Basil Mahfouz Al-Kuwaiti.",
     "paraphrased_question": ..., "paraphrased_answer": ..., "perturbed_answer": [five wrong answers]}

Two layouts are read. That of the benchmark, a folder or ``locuslab/TOFU`` on the hub: ``forget10`` holds 400 rows and
``retain90`` the other 3600. That of arXiv 2410.08109: ``forget10`` holds nine tasks of 400 rows, the first of which is
the benchmark's split, and ``retain10`` the 400 rows that are never forgotten; the retain split of one task alone is
everything else. TOFU's full data ask one question twice, with two answers, so a row is known by its file and number.

Maini et al. (2024), arXiv 2401.06121.
"""

from collections.abc import Sequence
from pathlib import Path

from leakbound.errors import InputError, PromptsError
from leakbound.reading.rows import Row
from leakbound.reading.tables import Tables, unique
from leakbound.records import check_choice
from leakbound.suites.base import QuestionAnswer, Suite, SuiteKind

HUB = "locuslab/TOFU"
SPLITS = {
    "forget01": ("retain99", "retain90"),
    "forget05": ("retain95", "retain50"),
    "forget10": ("retain90", "retain10"),
}
"""The forget splits, and the name of the table of what is retained: in the benchmark's layout, in that with tasks."""
NUM_WRONG = {"forget": 5, "retain": 5, "real_authors": 3, "world_facts": 3}
"""How many wrong answers each question of a set has."""


def tofu(split: str = "forget10", data: str | Path | None = None, *, revision: str | None = None) -> Suite:
    """One split of TOFU, with the four evaluated sets; ``data`` is a folder, without it the hub is read.

    ``forget`` and ``retain`` make up the full data, ``holdout`` is there where the source has it. Evaluated are
    ``forget``, ``retain`` (400 questions), ``real_authors``, ``world_facts`` and ``holdout``.

    :raises InputError: unknown split or folder. :raises PromptsError: broken data, with file and line.
    """
    tables = _open(split, data, revision)
    tasks, permanent = _tasks(tables, split)
    return _benchmark(tables, split, tasks[0], permanent + tuple(row for task in tasks[1:] for row in task))


def tofu_tasks(
    split: str = "forget01", data: str | Path | None = None, *, revision: str | None = None
) -> tuple[Suite, ...]:
    """The continual setting: TOFU cut into tasks that are forgotten one after another, one benchmark for each.

    Task t retains what is never forgotten and the tasks after t; evaluated are its own forget set and the sets of
    :func:`tofu`. arXiv 2410.08109.

    :raises InputError: the data have no tasks: those of arXiv 2410.08109 are needed.
    """
    tables = _open(split, data, revision)
    tasks, permanent = _tasks(tables, split)
    if len(tasks) == 1:
        raise InputError(
            f"data is {None if data is None else str(data)!r}: its {split} has no task_id; the continual setting needs "
            "the files of github.com/sail-sg/closer-look-LLM-unlearning (data/tofu)"
        )
    return tuple(
        _benchmark(tables, split, task, permanent + tuple(row for later in tasks[number:] for row in later), number)
        for number, task in enumerate(tasks, start=1)
    )


def _open(split: str, data: str | Path | None, revision: str | None) -> Tables:
    check_choice("split", split, SPLITS)
    return Tables(None if data is None else Path(data), HUB, revision)


def _benchmark(
    tables: Tables,
    split: str,
    forget: tuple[QuestionAnswer, ...],
    retain: tuple[QuestionAnswer, ...],
    number: int | None = None,
) -> Suite:
    sets = {"forget": forget, **{name: _asked(tables, name) for name in ("retain", "real_authors", "world_facts")}}
    held = f"holdout{split[-2:]}"
    holdout = _plain(tables, held, tables.rows(held)) if tables.has(held) else ()
    if holdout:
        sets["holdout"] = holdout
    name = f"tofu-{split}" if number is None else f"tofu-{split}-task{number:02d}"
    return Suite(name, forget, retain, holdout, sets, checksums=dict(tables.checksums))


def _tasks(tables: Tables, split: str) -> tuple[list[tuple[QuestionAnswer, ...]], tuple[QuestionAnswer, ...]]:
    """The tasks of the forget file in order, with paraphrases and wrong answers, and what is never forgotten."""
    plain, asked = tables.rows(split), tables.rows(f"{split}_perturbed")
    unique(asked, "question")
    known = {row.text("question"): row for row in asked}
    tasks: dict[int, list[QuestionAnswer]] = {}
    for row in plain:
        match = known.get(row.text("question"))
        if match is None or match.text("answer") != row.text("answer"):
            raise PromptsError(f"{row.where}: {split}_perturbed has no row with this question and answer")
        tasks.setdefault(_task_number(row), []).append(_perturbed(match, f"{split}:{row.number}", "forget"))
    if sorted(tasks) != list(range(1, len(tasks) + 1)):
        raise PromptsError(f"{plain[0].where}: the table's task ids are {sorted(tasks)}: give 1, 2, 3, ... all there")
    retained = SPLITS[split][len(tasks) > 1]
    rows = tables.rows(retained)
    unique([*plain, *rows], "question", "answer")
    return [tuple(tasks[number]) for number in sorted(tasks)], _plain(tables, retained, rows)


def _task_number(row: Row) -> int:
    given = row.values.get("task_id", "1")
    if not str(given).isdigit():
        raise PromptsError(f"{row.where}: task_id is {given!r}: give a whole number")
    return int(given)


def _asked(tables: Tables, name: str) -> tuple[QuestionAnswer, ...]:
    """One of the further evaluated sets: retain, real_authors or world_facts."""
    rows = tables.rows(f"{name}_perturbed")
    unique(rows, "question")
    return tuple(_perturbed(row, f"{name}_perturbed:{row.number}", name) for row in rows)


def _perturbed(row: Row, id: str, name: str) -> QuestionAnswer:
    answer = row.text("answer")
    return QuestionAnswer(
        id=id,
        subject="",
        attribute="",
        question=row.text("question"),
        answer=answer,
        target=answer,
        paraphrased_question=row.text("paraphrased_question", optional=True),
        # real authors and world facts have no paraphrase: the plain answer takes its place
        paraphrased_answer=row.text("paraphrased_answer", optional=name in ("real_authors", "world_facts")),
        perturbed_answers=row.texts("perturbed_answer", NUM_WRONG[name]),
        original_answer=row.text("original_answer", optional=True),
    )


def _plain(tables: Tables, name: str, rows: Sequence[Row]) -> tuple[QuestionAnswer, ...]:
    found = []
    for row in rows:
        answer = row.text("answer")
        found.append(QuestionAnswer(f"{name}:{row.number}", "", "", row.text("question"), answer, answer))
    return tuple(found)


KIND = SuiteKind(
    lambda split, data, revision: tofu(split or "forget10", data, revision=revision),
    ("forget10", "forget05", "forget01"),
    tasks=lambda split, data, revision: tofu_tasks(split or "forget01", data, revision=revision),
)
