"""MUSE: news articles or books that a model was trained on and should forget, measured in three ways.

One row of each table, as ``muse-bench/MUSE-News`` and ``muse-bench/MUSE-Books`` on the hub hold them::

    verbmem/forget       {"prompt": "the beginning of an article", "gt": "how it goes on"}
    knowmem/forget_qa    {"question": "Who ...?", "answer": "..."}       also retain_qa, and *_icl with ten examples
    privleak/forget      {"text": "a passage"}                           also retain and holdout

A folder holds ``verbmem/forget.json`` and so on: JSON lists as in the authors' repository, or the hub's Parquet files.

Evaluated are ``verbmem`` (128 tokens that follow the beginning), ``knowmem_forget`` and ``knowmem_retain`` (32 tokens,
after the examples, cut where another question begins), and for membership inference the passages ``forget`` and
``holdout``, of which the first word takes the question's place. Shi et al. (2024), arXiv 2407.06460.
"""

from pathlib import Path

from leakbound.errors import PromptsError
from leakbound.metrics.conventions import CLASSIC
from leakbound.reading.rows import Row
from leakbound.reading.tables import Tables
from leakbound.records import check_choice
from leakbound.suites.base import Asking, QuestionAnswer, Suite, SuiteKind

CORPORA = {"news": "muse-bench/MUSE-News", "books": "muse-bench/MUSE-Books"}
NEXT_QUESTION = ("\n\n", "\nQuestion", "Question:")
"""What ends an answer to a question: a model without an end goes on with questions of its own."""
ASKING = {
    "verbmem": Asking(128, (), "verbatim_memorization"),
    "knowmem_forget": Asking(32, NEXT_QUESTION, "knowledge_memorization"),
    "knowmem_retain": Asking(32, NEXT_QUESTION, "knowledge_memorization"),
    "forget": Asking(0),
    "holdout": Asking(0),
}


def muse(corpus: str = "news", data: str | Path | None = None, *, revision: str | None = None) -> Suite:
    """MUSE-News or MUSE-Books; ``data`` is a folder, without it the hub is read. Ask with the template ``raw``.

    ``forget`` are the questions about what is to be forgotten, ``retain`` those about the rest.

    :raises InputError: unknown corpus or folder. :raises PromptsError: broken data, with file and line.
    """
    check_choice("split", corpus, CORPORA)
    tables = Tables(None if data is None else Path(data), CORPORA[corpus], revision)
    sets = {
        "verbmem": tuple(
            _asked(f"verbmem:{row.number}", row.text("prompt"), row.text("gt")) for row in tables.rows("verbmem/forget")
        ),
        "knowmem_forget": _questions(tables, "forget_qa"),
        "knowmem_retain": _questions(tables, "retain_qa"),
        "forget": _passages(tables, "forget"),
        "holdout": _passages(tables, "holdout"),
    }
    return Suite(
        f"muse-{corpus}",
        sets["knowmem_forget"],
        sets["knowmem_retain"],
        evaluated=sets,
        asking=ASKING,
        checksums=dict(tables.checksums),
    )


def _questions(tables: Tables, name: str) -> tuple[QuestionAnswer, ...]:
    """The questions of one split, each after the ten examples that show the form of an answer."""
    shots = "".join(
        f"Question: {row.text('question')}\nAnswer: {row.text('answer')}\n\n"
        for row in tables.rows(f"knowmem/{name}_icl")
    )
    return tuple(
        _asked(f"{name}:{row.number}", f"{shots}Question: {row.text('question')}\nAnswer:", row.text("answer"))
        for row in tables.rows(f"knowmem/{name}")
    )


def _passages(tables: Tables, name: str) -> tuple[QuestionAnswer, ...]:
    return tuple(_passage(row, f"privleak/{name}:{row.number}") for row in tables.rows(f"privleak/{name}"))


def _passage(row: Row, id: str) -> QuestionAnswer:
    words = row.text("text").split(maxsplit=1)
    if len(words) < 2:
        raise PromptsError(f"{row.where}: text is {words[0]!r}: give a passage of at least two words")
    return _asked(id, words[0], words[1])


def _asked(id: str, question: str, answer: str) -> QuestionAnswer:
    return QuestionAnswer(id, "", "", question, answer, answer)


KIND = SuiteKind(
    lambda split, data, revision: muse(split or "news", data, revision=revision),
    tuple(CORPORA),
    template="raw",
    columns=(
        ("verbatim memorization", "verbatim_memorization", "verbmem"),
        ("forget knowledge", "knowledge_memorization", "knowmem_forget"),
        ("retain knowledge", "knowledge_memorization", "knowmem_retain"),
        ("PrivLeak", "priv_leak", "forget"),
        *CLASSIC,
    ),
)
