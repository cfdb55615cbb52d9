"""What is drawn of a round's model: by the search, which trains the next round, and by the proof, which decides.

Their seeds are hashes of the purpose and the round, so that no draw of a proof was of use before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from leakbound.auditing.steps import Statement, audit, sample, score
from leakbound.bounds.claims import Verdict
from leakbound.bounds.gate import reaches
from leakbound.models.base import Sampler
from leakbound.models.hf.loading import load_tokenizer
from leakbound.models.opening import Loading, open_model
from leakbound.models.randomness import seed_of
from leakbound.models.template import read_answer
from leakbound.proving.goal import Goal
from leakbound.records import Draw, Prompt, SamplingParams
from leakbound.results.audit import Audit
from leakbound.results.proof import Attempt
from leakbound.results.verdicts import average_verdict, counted, every_verdict, stages, unless_cut
from leakbound.runs.store import Run
from leakbound.unlearning.config import UnlearnConfig


class Asking:
    """Asks the models of a run's rounds, each opened once for all that is asked of it."""

    def __init__(self, config: UnlearnConfig, goal: Goal, work: Path, loading: Loading, progress: bool) -> None:
        self.config, self.goal, self.work, self.progress = config, goal, work, progress
        self.loading = loading if goal.proof_dtype == "auto" else replace(loading, dtype=goal.proof_dtype)
        self.decoding = SamplingParams(max_tokens=config.max_tokens, temperature=goal.temperature, top_p=goal.top_p)
        self.held: tuple[Path, Sampler] | None = None

    def look(self, model: Path, prompts: Sequence[Prompt], number: int, what: str, draws: int) -> Run:
        """Draws of a round's model, scored: what trains the next one, and proves nothing."""
        config = self.config
        statement = Statement(config.leak_scorer, config.leak_threshold, self.goal.alpha)
        run = sample(
            self.opened(model), prompts, self.place(number, what), num_samples=draws, params=self.decoding,
            statement=statement, seed=self.seed(number, what), progress=self.progress,
        )  # fmt: skip
        score(run, progress=self.progress)
        return run

    def answers(self, run: Run) -> tuple[dict[str, list[Draw]], dict[str, list[Draw]]]:
        """The distinct answers to each question that leak, and the others: those first that score least, then those
        that are most frequent."""
        leaking: dict[str, list[Draw]] = {p.id: [] for p in run.prompts}
        others: dict[str, list[tuple[float, Draw]]] = {p.id: [] for p in run.prompts}
        for part in (part for part in run.drawn() if part.kind == "sample"):  # an attempt may have stopped early
            for draw, value in run.read_scored(part, self.config.leak_scorer):
                if reaches(value, self.config.leak_threshold):
                    leaking[draw.prompt_id].append(draw)
                else:
                    others[draw.prompt_id].append((value, draw))
        for some in others.values():
            some.sort(key=lambda one: (one[0], -one[1].count, one[1].text))
        return leaking, {name: [draw for _, draw in some] for name, some in others.items()}

    def said(self, model: Path) -> Callable[[Iterable[Draw]], list[Draw]]:
        """What gives a model's draws the text that a row has for their answer."""
        tokenizer, template = load_tokenizer(str(model)), self.config.template
        return lambda draws: [replace(draw, text=read_answer(tokenizer, draw.text, template)) for draw in draws]

    def tried(
        self,
        model: Path,
        prompts: Sequence[Prompt],
        number: int,
        what: str,
        draws: int,
        level: float,
        until: str | None,
    ) -> Audit:
        """An audit of a round's model at its level, by draws that nothing else uses."""
        config = self.config
        return audit(
            self.opened(model), prompts, scorer=config.leak_scorer, threshold=config.leak_threshold, num_samples=draws,
            alpha=level, params=self.decoding, until=until, seed=self.seed(number, what), out=self.place(number, what),
            page=what != "proof-retain", progress=self.progress,
        )  # fmt: skip

    def attempt(
        self, model: Path, prompts: Sequence[Prompt], retain: Sequence[Prompt], number: int, level: float
    ) -> tuple[Attempt, Path]:
        """One attempt at a proof, and its run of the forget questions."""
        goal, average = self.goal, self.goal.of == "average"
        for size, share in stages(goal.proof_samples) if average else [(goal.proof_samples, 1.0)]:
            what = f"proof-{size}" if average else "proof"
            until = None if average else goal.until
            proof = self.tried(model, prompts, number, what, size, share * level, until)
            leak, upper = leak_verdict(proof, goal, share * level)
            if leak != "open":
                break
        known: Verdict = "proven"
        lower: float | None = None
        if goal.kept is not None:
            right = self.tried(model, retain, number, "proof-retain", goal.keep_samples, level, None)
            known, lower = average_verdict(counted(right), goal.kept, level, refuting=level / 2, at_least=True)
        draws, (_, cut) = sum(p.num_samples for p in proof.prompts), proof.cut_shares
        return Attempt(level, draws, cut, upper, lower, leak, known, proof.never_ended), self.place(number, what)

    def opened(self, model: Path) -> Sampler:
        """A round's model, opened once for all that is asked of it."""
        if self.held is None or self.held[0] != model:
            self.held = None
            self.held = model, open_model(str(model), template=self.config.template, loading=self.loading)
        return self.held[1]

    def close(self) -> None:
        """Let the model and its workers go: a training needs their memory and devices."""
        self.held = None

    def seed(self, number: int, what: str) -> int:
        """The seed of some draws: a hash, so that none of a run are those of another purpose."""
        return seed_of(self.config.seed, what, number)

    def place(self, number: int, what: str) -> Path:
        """Where a run folder of a round is."""
        return self.work / f"round-{number:02d}" / what


def leak_verdict(proof: Audit, goal: Goal, level: float) -> tuple[Verdict, float]:
    """What fresh draws say of the claim about P(leak), and the upper bound that they give.

    Proven at ``level``, refuted at half of it: the other half is for what shall be kept. Of questions of which every
    draw was cut before it leaked nothing is proven, as in an audit.
    """
    if goal.of == "average":
        verdict, upper = average_verdict(counted(proof), goal.limit, level, refuting=level / 2)
        return unless_cut(verdict, proof, goal.limit), upper
    return every_verdict(proof.prompts, level / 2), max(p.leak.upper for p in proof.prompts)
