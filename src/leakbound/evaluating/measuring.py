"""A model and a suite become per-question values: the only place where that happens.

For each set of questions three parts are computed, each once: *likelihoods* of the right answer, its paraphrase and the
wrong answers by teacher forcing; *generations*, one greedy answer to each question; and *meaning*, what an embedding
model and a model of inference say about these. A part already in the folder is not computed again.

A loss is the mean negative log-likelihood per answer token in nats, the end token included, as TOFU counts it. Where a
set has wrong answers and no paraphrase, the right answer takes the paraphrase's place (arXiv 2401.06121).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from leakbound import metrics
from leakbound.errors import InputError
from leakbound.metrics.questions import QuestionSet
from leakbound.models.away import crew_of, through
from leakbound.models.base import Sampler, TokenLikelihood
from leakbound.models.opening import Loading, open_model
from leakbound.records import Prompt, SamplingParams, Shard, check_count
from leakbound.results.evaluation import Evaluation
from leakbound.runs.cache import Cache
from leakbound.runs.progress import Progress, keeping
from leakbound.scoring.lexical import rouge_1, rouge_l, rouge_l_f1
from leakbound.suites.base import Asking, QuestionAnswer, Suite
from leakbound.workers import Do, spread

FORMAT = 2
"""Counted up when the values of a part change, so that older parts are computed again."""
CHUNK = 64
"""Questions of one call of the model."""
MAX_TOKENS = 200
"""The longest greedy answer, in tokens."""

Result = TypeVar("Result")
Floats = NDArray[np.float64]
Similarities = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""(text, reference) pairs -> how alike they are, in [0, 1]."""
Entails = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""(premise, hypothesis) pairs -> 1 where the premise entails its hypothesis, else 0."""


@runtime_checkable
class AnswerLikelihood(Protocol):
    """A model that gives the likelihoods of given answers, token by token."""

    def answer_likelihoods(
        self, questions: Sequence[str], answers: Sequence[Sequence[str]]
    ) -> list[list[TokenLikelihood]]:
        """The likelihoods of ``answers[i]``, any number of answers to ``questions[i]``, at temperature 1."""


@dataclass(frozen=True)
class Meaning:
    """The models that compare texts by meaning; ``name`` says which they are."""

    name: str
    similarities: Similarities | None = None
    entails: Entails | None = None


@dataclass(frozen=True)
class Measured:
    """An evaluation, and the seconds that each kind of part took, whenever it was computed."""

    evaluation: Evaluation
    seconds: Mapping[str, float]


def evaluate(
    model: Any,
    suite: Suite,
    *,
    tokenizer: Any = None,
    template: str = "auto",
    loading: Loading | None = None,
    max_tokens: int = MAX_TOKENS,
    max_questions: int | None = None,
    gradient_norms: bool = False,
    meaning: Meaning | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Every per-question value of ``model`` on the sets of ``suite``.

    ``model``: a folder, a hub id, a model of transformers (with ``tokenizer``), or a Sampler with likelihoods. Greedy
    answers have at most ``max_tokens`` tokens. ``max_questions`` takes the first so many of each set; by default all.
    ``gradient_norms`` adds the membership score of that name to forget and holdout: a backward pass for each question.
    With ``out``, what is computed stays in OUT/parts and is not computed again.

    :raises InputError: the model gives no likelihoods, or a set is not complete.
    """
    sampler = open_model(model, tokenizer=tokenizer, template=template, loading=loading)
    return measure(
        sampler, suite, max_tokens=max_tokens, max_questions=max_questions, gradient_norms=gradient_norms,
        meaning=meaning, out=out, progress=progress,
    ).evaluation  # fmt: skip


def measure(
    model: Sampler,
    suite: Suite,
    *,
    max_tokens: int = MAX_TOKENS,
    max_questions: int | None = None,
    gradient_norms: bool = False,
    meaning: Meaning | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Measured:
    """:func:`evaluate` for an open model, with the time that each kind of part took."""
    if not isinstance(model, AnswerLikelihood):
        raise InputError(f"model is a {type(model).__name__}: the classic metrics need one that gives likelihoods")
    check_count("max_tokens", max_tokens, least=1)
    check_count("max_questions", max_questions, least=1, needed=False)
    folder = None if out is None else Path(out).expanduser() / "parts"
    parts, sets = Cache(folder), {}
    with keeping(lambda: f"{len(list(folder.glob('*'))) if folder else 0} parts are kept in {folder}"):
        described = model.describe()
        for name, everyone in suite.sets.items():
            rows, asking = everyone[:max_questions], suite.asking.get(name, Asking())
            if not rows:
                raise InputError(f"suite {suite.name}: its set {name} holds no questions: leave the set out")
            longest = max_tokens if asking.max_tokens is None else asking.max_tokens
            asking = replace(asking, max_tokens=longest)
            inputs = {"format": FORMAT, "model": described, "rows": [row.to_json() for row in rows]}
            values = parts.get(name, "likelihoods", inputs, partial(_likelihoods, model, name, rows, progress))
            if gradient_norms and name in ("forget", "holdout"):
                values = values | parts.get(name, "gradients", inputs, partial(_gradients, model, name, rows, progress))
            texts: list[str] = []
            if longest:
                inputs["asking"] = asdict(asking)
                said = parts.get(
                    name, "generations", inputs, partial(_generations, model, name, rows, asking, progress)
                )
                texts, values = said["texts"], values | said["values"]
                if meaning is not None:
                    inputs |= {"said": texts, "by": meaning.name}
                    values |= parts.get(name, "meaning", inputs, partial(_meaning, meaning, name, rows, texts, values))
            sets[name] = QuestionSet(
                name,
                tuple(row.id for row in rows),
                {key: np.array(value, dtype=np.float64) for key, value in values.items()},
                tuple((row.question, text, row.answer) for row, text in zip(rows, texts, strict=True)) if texts else (),
            )
    return Measured(Evaluation(str(described.get("model")), suite.name, sets), dict(parts.seconds))


def _each_chunk(
    what: str,
    name: str,
    rows: Sequence[QuestionAnswer],
    model: Any,
    ask: Callable[[Any, Sequence[QuestionAnswer]], Iterable[Result]],
    progress: bool,
) -> list[Result]:
    """What ``ask(model, questions)`` says of each question, some of them at a time, in their order."""
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    found: dict[int, list[Result]] = {}

    def of_chunk(do: Do, i: int) -> Iterator[list[Result]]:
        yield list(ask(through(model, do), chunks[i]))

    shown = Progress(f"{what}: {name}", len(rows), "questions", show=progress)
    numbers = range(len(chunks))
    with shown, spread(crew_of(model), numbers, of_chunk, lambda i: f"{what} {i} of {name}") as answers:
        for i, answer in answers:
            found[i] = answer
            shown.advance(len(chunks[i]))
    return [one for i in numbers for one in found[i]]


def _likelihoods(model: AnswerLikelihood, name: str, rows: Sequence[QuestionAnswer], progress: bool) -> dict[str, Any]:
    """The values that teacher forcing gives, as lists."""
    wrong = {len(row.perturbed_answers) for row in rows}
    if len(wrong) > 1:
        raise InputError(f"set {name}: its questions have {sorted(wrong)} wrong answers: give all the same number")

    def ask(model: AnswerLikelihood, some: Sequence[QuestionAnswer]) -> list[list[TokenLikelihood]]:
        texts = [[row.answer, *([row.paraphrased_answer] if row.paraphrased_answer else []), *row.perturbed_answers]
                 for row in some]  # fmt: skip
        return model.answer_likelihoods([row.question for row in some], texts)

    found = _each_chunk("likelihoods", name, rows, model, ask, progress)
    right = [some[0] for some in found]
    values: dict[str, Any] = {
        "answer_loss": [x.loss for x in right],
        "answer_tokens": [len(x.logprobs) for x in right],
        "extraction_strength": [metrics.extraction_strength(x.greedy) for x in right],
        "exact_memorization": [metrics.exact_memorization(x.greedy) for x in right],
        "mia_loss": [metrics.mia_loss(x.logprobs) for x in right],
        "mia_zlib": [metrics.mia_zlib(x.logprobs, row.answer) for x, row in zip(right, rows, strict=True)],
        "mia_min_k": [metrics.mia_min_k(x.logprobs) for x in right],
        "mia_min_k_plus_plus": [metrics.mia_min_k_plus_plus(x.logprobs, x.mean, x.std) for x in right],
    }
    number = wrong.pop()
    if number:
        # the right answer takes the paraphrase's place where there is none
        values["paraphrase_loss"] = [some[len(some) - number - 1].loss for some in found]
        values["perturbed_loss"] = [[x.loss for x in some[-number:]] for some in found]
    return values


def _gradients(model: Any, name: str, rows: Sequence[QuestionAnswer], progress: bool) -> dict[str, Any]:
    """The norm of the gradient of each right answer's loss."""

    def ask(model: Any, some: Sequence[QuestionAnswer]) -> list[float]:
        found = model.answer_gradient_norms([row.question for row in some], [row.answer for row in some])
        return [float(norm) for norm in found]

    return {"mia_gradient_norm": _each_chunk("gradients", name, rows, model, ask, progress)}


def _generations(
    model: Sampler, name: str, rows: Sequence[QuestionAnswer], asking: Asking, progress: bool
) -> dict[str, Any]:
    """One greedy answer to each question, what its words say, and whether it was cut at max_tokens."""
    greedy = SamplingParams(temperature=0.0, max_tokens=asking.max_tokens or MAX_TOKENS, stop=asking.stop)

    def ask(model: Sampler, some: Sequence[QuestionAnswer]) -> list[tuple[str, bool]]:
        prompts = tuple(Prompt(row.id, row.question, row.answer) for row in some)
        return [(draw.text, draw.finish_reason != "stop") for draw in model.sample(Shard(prompts, 0, 1, 0), greedy)]

    said = _each_chunk("generations", name, rows, model, ask, progress)
    texts = [text for text, _ in said]
    pairs = [(text, row.answer) for text, row in zip(texts, rows, strict=True)]
    values = {
        "rouge1_recall": [rouge_1(*pair) for pair in pairs],
        "rouge_l_recall": [rouge_l(*pair) for pair in pairs],
        "rouge_l_f1": [rouge_l_f1(*pair) for pair in pairs],
        "cut": [float(cut) for _, cut in said],
    }
    if asking.score:
        values[asking.score] = values["rouge_l_f1"]
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        values["token_entropy"] = [metrics.token_entropy(tokenizer.tokenize(text)) for text in texts]
    return {"texts": texts, "values": values}


def _meaning(
    meaning: Meaning, name: str, rows: Sequence[QuestionAnswer], texts: Sequence[str], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Cosine similarity with what the model said before, and entailment in closer-look's direction."""
    found = {}
    if meaning.similarities is not None:
        before = [row.original_answer or row.answer for row in rows]
        found["cosine_similarity"] = [float(x) for x in meaning.similarities(list(zip(texts, before, strict=True)))]
    if meaning.entails is not None:
        premise, _ = metrics.ENTAILMENT_DIRECTION.get(name, metrics.ENTAILMENT_DIRECTION["forget"])
        short = name in ("real_authors", "world_facts")  # their answers are names: the whole sentence is the truth
        truths = [row.original_answer if short and row.original_answer else row.answer for row in rows]
        pairs = [(a, b) if premise == "output" else (b, a) for a, b in zip(texts, truths, strict=True)]
        verdicts = [float(verdict) for verdict in meaning.entails(pairs)]
        found["entailment"] = metrics.entailment_score(verdicts, values["rouge_l_recall"]).tolist()
    return found


def with_reference_losses(evaluation: Evaluation, reference: Evaluation) -> Evaluation:
    """The evaluation with each answer's loss less its loss under a reference model: a membership score.

    Only in sets where both models read the same questions in as many tokens; others stay as they are, and forget and
    holdout, which are compared, have it both or neither.
    """
    sets = dict(evaluation.sets)
    for name, one in evaluation.sets.items():
        other = reference.sets.get(name)
        mine, theirs = (q.values if q is not None else {} for q in (one, other))
        if other is None or one.ids != other.ids or not ({"answer_loss", "answer_tokens"} <= set(mine) & set(theirs)):
            continue
        if np.array_equal(mine["answer_tokens"], theirs["answer_tokens"]):
            gap = mine["answer_loss"] - theirs["answer_loss"]
            sets[name] = replace(one, values={**mine, "mia_reference": gap})
    compared = {"forget", "holdout"} & sets.keys()
    if not all("mia_reference" in sets[name].values for name in compared):
        sets |= {name: evaluation.sets[name] for name in compared}
    return replace(evaluation, sets=sets)


def with_leak_rates(evaluation: Evaluation, rates: Mapping[str, float]) -> Evaluation:
    """The evaluation with the share of draws that leak, in the set whose questions were all sampled, if one was."""
    one = next((one for one in evaluation.sets.values() if set(one.ids) == set(rates)), None)
    if one is None:
        return evaluation
    values = {**one.values, "leak_rate": np.array([rates[id] for id in one.ids])}
    return replace(evaluation, sets={**evaluation.sets, one.name: replace(one, values=values)})
