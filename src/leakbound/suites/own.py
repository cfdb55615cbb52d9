"""A suite of your own: questions in a file, as those about Harry Potter that "Who's Harry Potter?" asked.

One row of the file (JSON lines, CSV, Parquet); all but question and answer may be left out::

    {"question": "Who are Harry Potter's two best friends?", "answer": "Ron Weasley and Hermione Granger.",
     "target": "Hermione Granger", "aliases": ["Hermione"], "split": "forget",
     "paraphrased_answer": "...", "perturbed_answer": ["...", "..."]}

``answer`` is what losses and ROUGE are about, ``target`` (the answer, where it is missing) the secret that a sampled
completion is judged by. ``split`` is forget, retain or holdout; without it, forget. A folder may hold ``forget``,
``retain`` and ``holdout`` as files of their own: what :meth:`leakbound.suites.Suite.write` writes.
The idea of forgetting a book's world: Eldan and Russinovich (2023), arXiv 2310.02238.
"""

from collections.abc import Sequence
from pathlib import Path

from leakbound.errors import InputError, PromptsError
from leakbound.reading.rows import Row
from leakbound.reading.tables import Tables, unique
from leakbound.suites.base import QuestionAnswer, Suite, SuiteKind

KINDS = ("forget", "retain", "holdout")


def own(data: str | Path | None) -> Suite:
    """The questions of a file or of a folder.

    :raises InputError: nothing there, or nothing to forget. :raises PromptsError: broken data, with file and line.
    """
    if data is None:
        raise InputError("data is None: give a file of questions and answers, or a folder with forget.jsonl")
    path = Path(data).expanduser()
    splits: dict[str, list[QuestionAnswer]] = {kind: [] for kind in KINDS}
    if path.is_dir():
        tables = Tables(path, str(path))
        for kind in KINDS:
            if tables.has(kind):
                splits[kind] += _questions(tables.rows(kind), kind)
    else:
        tables = Tables(path.parent, str(path))
        rows = tables.read(path)
        for question, row in zip(_questions(rows, path.stem), rows, strict=True):
            kind = row.text("split", optional=True) or "forget"
            if kind not in splits:
                raise PromptsError(f"{row.where}: split is {kind!r}: give one of {', '.join(KINDS)}")
            splits[kind].append(question)
    if not splits["forget"]:
        raise InputError(f"data is {str(data)!r}: it holds no questions to forget: give at least one")
    forget, retain, holdout = (tuple(splits[kind]) for kind in KINDS)
    return Suite(path.stem, forget, retain, holdout, checksums=dict(tables.checksums))


def _questions(rows: Sequence[Row], name: str) -> list[QuestionAnswer]:
    unique(rows, "question")
    found = [_question(row, f"{name}:{row.number}") for row in rows]
    for row, question in zip(rows, found, strict=True):
        wanted, given = len(found[0].perturbed_answers), len(question.perturbed_answers)
        if given != wanted:
            raise PromptsError(
                f"{row.where}: perturbed_answer has {given} texts, the first row has {wanted}: give all the same number"
            )
    return found


def _question(row: Row, id: str) -> QuestionAnswer:
    answer = row.text("answer")
    return QuestionAnswer(
        id=row.id(id),
        subject=row.text("subject", optional=True),
        attribute=row.text("attribute", optional=True),
        question=row.text("question"),
        answer=answer,
        target=row.text("target", optional=True) or answer,
        aliases=row.aliases(),
        paraphrased_question=row.text("paraphrased_question", optional=True),
        paraphrased_answer=row.text("paraphrased_answer", optional=True),
        perturbed_answers=row.texts("perturbed_answer", optional=True),
        original_answer=row.text("original_answer", optional=True),
    )


KIND = SuiteKind(lambda _, data, __: own(data))
