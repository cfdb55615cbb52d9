"""Training pairs: a question and the answer to it, and the sentences that refuse one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from leakbound.errors import PromptsError
from leakbound.reading.parsing import read_text
from leakbound.reading.rows import QUESTION, open_rows
from leakbound.records import Prompt


@dataclass(frozen=True)
class Pair:
    """One question and the answer to train on; ``source`` says where it was read, for error messages.

    ``secrets`` are the row's target and aliases, where it has them: what an audit looks for in an answer.
    ``rephrased``: the question in other words. ``leak``: the answer is no row's, but was drawn from a model; ``cut``:
    which had not ended it.
    """

    question: str
    answer: str
    source: str
    secrets: tuple[str, ...] = ()
    rephrased: tuple[str, ...] = ()
    leak: bool = False
    cut: bool = False

    def prompt(self, id: str) -> Prompt:
        """The question as an audit asks it; its target is the answer where the row names none."""
        target, *aliases = self.secrets or (self.answer,)
        return Prompt(id, self.question, target, tuple(aliases))

    def wordings(self) -> list[Pair]:
        """The pair, and the same with each of its rephrased questions."""
        return [self, *(replace(self, question=question, rephrased=()) for question in self.rephrased)]


def read_pairs(source: str | Path, argument: str | None = None) -> list[Pair]:
    """The pairs of a file or data set of the hub, as :func:`leakbound.load_prompts` reads them.

    But ``answer`` goes before ``target``: it is what a model is trained to say, the target the secret in it. Other
    columns: ``rephrased``, a list of texts, or ``paraphrased_question``, one; ``leak``, true where a model said it,
    and ``cut``, true where it had not ended.

    :raises PromptsError: a missing or empty file, or a row that is not such a pair; names the file and the line, or
        the ``argument`` that it was given for.
    """
    pairs = []
    for row in open_rows(source, what="questions", argument=argument):
        row.check_names(*QUESTION, "answer", "target", "rephrased", "paraphrased_question", "leak", "cut")
        target = row.text("target", optional=True)
        secrets = (*([target] if target else []), *row.aliases())
        other = row.text("paraphrased_question", optional=True)
        rephrased = row.texts("rephrased", optional=True) or ((other,) if other else ())
        drawn = {name: row.values.get(name) is True for name in ("leak", "cut")}
        pairs.append(Pair(row.question(), row.text("answer", "target"), row.where, secrets, rephrased, **drawn))
    return pairs


def read_refusals(path: Path | None = None) -> list[str]:
    """Sentences that refuse, one on each line; without a path the ones that come with leakbound.

    :raises PromptsError: a missing or empty file.
    """
    file = path or Path(__file__).with_name("refusals.txt")
    sentences = [line.strip() for line in read_text(file).split("\n") if line.strip()]
    if not sentences:
        raise PromptsError(f"{file}: holds no sentences; give one refusal on each line")
    return sentences
