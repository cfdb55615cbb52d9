"""Real-world unlearning: 20 people whom Llama-3-8B-Instruct knows, 20 questions about each, and neighbours to retain.

One row of ``forget_perturbed.json``::

    {"name": "Eddie Van Halen", "question": "What nationality was Eddie Van Halen?",
     "answer": "Eddie Van Halen was an American musician, songwriter, and guitarist. He was born ...",
     "golden_answer": "Eddie Van Halen was American.", "paraphrased_question": ..., "paraphrased_answer": ...,
     "perturbed_answer": [five wrong answers], "task_id": 1}

``answer`` is what the model itself said before unlearning: it is trained on, and a generation is compared with it by
meaning. ``golden_answer`` is the truth that losses and ROUGE are about. The people of ``neighbor.json``, who are
retained, are not those of ``neighbor_perturbed.json``, who are asked about. arXiv 2410.08109.
"""

from pathlib import Path

from leakbound.errors import InputError
from leakbound.metrics.conventions import CLASSIC
from leakbound.reading.rows import Row
from leakbound.reading.tables import Tables, unique
from leakbound.suites.base import QuestionAnswer, Suite, SuiteKind

SOURCE = "github.com/sail-sg/closer-look-LLM-unlearning (data/real_world)"
NUM_WRONG = 5


def real_world(data: str | Path | None) -> Suite:
    """People to forget and people to retain, from the folder ``data``; evaluated are ``forget`` and ``neighbor``.

    :raises InputError: no folder. :raises PromptsError: broken data, with file and line.
    """
    if data is None:
        raise InputError(f"data is None: the real-world set is not on the hub; give the folder of {SOURCE}")
    tables = Tables(Path(data), SOURCE)
    forget, retain = (
        tuple(_trained(row, f"{table}:{row.number}") for row in _rows(tables, table))
        for table in ("forget", "neighbor")
    )
    trained = {row.question: row.id for row in forget}
    sets = {
        name: tuple(
            _asked(row, trained.get(row.text("question"), f"{name}_perturbed:{row.number}"))
            for row in _rows(tables, f"{name}_perturbed")
        )
        for name in ("forget", "neighbor")
    }
    return Suite("real_world", forget, retain, (), sets, checksums=dict(tables.checksums))


def _rows(tables: Tables, name: str) -> tuple[Row, ...]:
    rows = tables.rows(name)
    unique(rows, "question")
    return rows


def _trained(row: Row, id: str) -> QuestionAnswer:
    """A row as it is trained on: the model's own answer; the golden one is what must not be revealed."""
    answer, golden = row.text("answer"), row.text("golden_answer")
    return QuestionAnswer(id, row.text("name"), "", row.text("question"), answer, golden)


def _asked(row: Row, id: str) -> QuestionAnswer:
    """A row as it is evaluated: the golden answer."""
    golden = row.text("golden_answer")
    return QuestionAnswer(
        id=id,
        subject=row.text("name"),
        attribute="",
        question=row.text("question"),
        answer=golden,
        target=golden,
        paraphrased_question=row.text("paraphrased_question"),
        paraphrased_answer=row.text("paraphrased_answer"),
        perturbed_answers=row.texts("perturbed_answer", NUM_WRONG),
        original_answer=row.text("answer"),
    )


KIND = SuiteKind(
    lambda _, data, __: real_world(data), columns=(*CLASSIC, ("neighbor ROUGE-L", "rouge_l_recall", "neighbor"))
)
