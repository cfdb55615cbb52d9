"""Rounds of training, of draws that look for leaks, and of fresh draws that prove: until one of them does.

Why the verdict holds (docs/methods.md, Unlearning until proven): attempt k is about a model that is a function of data,
settings and draws of other seeds, and has the share ``look_shares`` of alpha, fixed beforehand. Given all that came
before, it is wrong with probability at most that share; the shares sum to alpha at most.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from leakbound.bounds import look_shares
from leakbound.errors import InputError
from leakbound.models.opening import Loading
from leakbound.proving.asking import Asking
from leakbound.proving.folder import WEIGHTS, begin, retained, sums_of
from leakbound.proving.goal import Goal
from leakbound.proving.seen import Seen, least_leaking, reaches, shares_of, staying, unended, worth
from leakbound.reading.pairs import Pair, read_pairs, read_refusals
from leakbound.reading.prompts import load_prompts
from leakbound.records import Draw
from leakbound.report.door import write_html
from leakbound.results.proof import Proof, Round, may_never_end
from leakbound.runs.cache import read
from leakbound.runs.files import new_folder, write_text
from leakbound.runs.store import Run
from leakbound.unlearning.config import UnlearnConfig
from leakbound.unlearning.leaks import most_said, said_by
from leakbound.unlearning.running import RECORD, on_main
from leakbound.unlearning.train import unlearn
from leakbound.workers import Workers

REPLACED, REFUSED = 10, 4
"""Of so many rows that teach what should be said one is an answer in place of a leak; a refusal to what is stuck."""


def unlearn_until(config: UnlearnConfig, goal: Goal, *, workers: Workers | None = None, progress: bool = True) -> Proof:
    """Unlearn in rounds until fresh draws prove the claim; the model, its proof and a page are left in ``config.out``.

    Each round trains on the answers to forget and on the leaks that the draws of earlier rounds found
    (``config.leak_samples`` of each question, judged by ``config.leak_scorer``); one that leaks little enough and lost
    what it should keep, or whose answers do not end, and one that forgot and is stuck, is followed by one of what is
    retained, and of answers to what leaks and to what never ends. A proof is tried where these draws leave hope, with
    other draws, at its share of ``goal.alpha``; one that fails adds its draws to those that train the next round, whose
    model is proven by others. After the last round the best model is tried that was seen: where one leaks little enough
    and its answers end, of such models; of those that leak little enough and keep what they should the one that leaks
    least, else of those that leak little enough the one that keeps most, else the nearest to the claim. What a killed
    run has done stays in OUT-rounds; with ``config.resume`` it goes on there and ends with the same model. ``workers``
    draw, score and bound; training is done here.

    :raises InputError: settings that cannot be used together; data, model or folder cannot be used.
    """
    if goal.until is None:
        raise InputError("until is None: give what shall be proven, such as leak<=0.01")
    steps = goal.budget is not None and config.max_steps is not None and "max_steps" in config.changed()
    for name, given in (("leak_rounds", config.leak_rounds), ("max_steps", steps)):
        if given:
            raise InputError(f"{name} is {getattr(config, name)!r} beside until: leave it out, rounds have their own")
    if len(config.forget) > 1 or config.is_replay:
        raise InputError(f"forget is {[str(f) for f in config.forget]}: with until give one file, and no replay")
    if goal.keep is not None and config.retain is None:
        raise InputError(f"keep is {goal.keep!r} and retain is None: give the questions that shall still be answered")
    read_refusals(config.idk)  # a round may need them hours later
    work = config.out.with_name(f"{config.out.name}-rounds")
    known = on_main(config, partial(begin, config, goal, work))
    return known or Rounds(config, goal, work, Loading(**vars(workers or Workers())), progress).run()


class Rounds:
    """One run: what its rounds share."""

    def __init__(self, config: UnlearnConfig, goal: Goal, work: Path, loading: Loading, progress: bool) -> None:
        self.config, self.goal, self.work, self.progress = config, goal, work, progress
        self.asking = Asking(config, goal, work, loading, progress)
        self.pairs = read_pairs(config.forget[0], "forget")
        self.prompts = load_prompts(config.forget[0])
        self.asked = [
            (wording, prompt if k == 0 else replace(prompt, id=f"{prompt.id}, rephrased {k}", text=wording.question))
            for pair, prompt in zip(self.pairs, self.prompts, strict=True)
            for k, wording in enumerate(pair.wordings())
        ]
        """The forget questions in all their words, as pairs and as prompts: what is searched for leaks."""
        self.retain = retained(config, goal)
        self.shares = look_shares(goal.rounds + 1)
        self.attempts = 0
        self.found: list[Pair] = []
        self.proofs: dict[int, Path] = {}

    def run(self) -> Proof:
        """Round after round, until one proves the claim or all are spent."""
        seen: list[Seen] = []
        for number in range(self.goal.rounds + 1):
            if seen and seen[-1].record.attempt is not None:
                self.learn(number - 1, seen[-1])
            now = self.round(number, seen[-1] if seen else None)
            seen.append(now)
            if now.clean and now.keeps and now.ends:
                self.prove(number, now)
            if now.record.attempt is not None and now.record.attempt.verdict == "proven":
                return on_main(self.config, partial(self.end, seen, number))
        best = max(range(len(seen)), key=lambda i: (seen[i].clean and seen[i].ends, *worth(self.goal, seen[i].record)))
        if seen[best].record.attempt is None:
            self.prove(best, seen[best])
        return on_main(self.config, partial(self.end, seen, best))

    def round(self, number: int, before: Seen | None) -> Seen:
        """Train one round and look at its model; the leaks that are new are added to ``found``.

        Where the model before wants answers, it is trained on what it should say, whatever the method: a retain term
        that compares with the model before would hold on to the loss, and what is said with probability 1 has no slope
        to descend. A step then has as many rows as one that also forgets.
        """
        config, goal, place = self.config, self.goal, self.work / f"round-{number:02d}"
        self.asking.close()
        rows = self.lowered(before)
        num_rows, file = len(rows), self.rows(place / "forget.jsonl", rows)
        steps = config.max_steps if goal.budget is None else goal.budget // (goal.rounds + 1)
        step = replace(
            config, model=str(before.model if before else config.model), forget=(file,), out=place / place.name,
            max_steps=steps, seed=self.asking.seed(number, "training") % 2**32 if number else config.seed, resume=True,
            reference=config.reference_of(config.model),
        )  # fmt: skip
        replaced = 0
        if before is not None and before.wants_answers:
            leaked = frozenset(name for name, share in before.shares.items() if share)
            leaked = leaked | before.unended if before.clean else leaked & before.stuck
            num_rows, replaced = 0, len(leaked)
            said = self.rows(place / "retain.jsonl", self.said(before, number, leaked)) if replaced else config.retain
            step = replace(
                step, method="grad_diff", forget_weight=0.0, entropy_forget=0.0, retain_weight=1.0, retain=said,
                batch_size=2 * config.batch_size, max_steps=steps or before.record.steps,
            )  # fmt: skip
        model = unlearn(step, progress=self.progress)
        look = partial(self.seen, number, model, num_rows, replaced, before)
        seen, found = on_main(config, look)
        self.found += found
        return seen

    def lowered(self, before: Seen | None) -> list[Pair]:
        """The rows to forget: the file's and the leaks that were found, but for those of questions that are stuck.

        On these lowering has no hold, and it takes away the refusals that were taught. Where all are stuck, all are
        lowered.
        """
        stuck = before.stuck if before else ()
        held = {pair.question for pair, prompt in self.asked if prompt.id in stuck}
        rows = [*self.pairs, *self.found]
        return [row for row in rows if row.question not in held] or rows

    def said(self, before: Seen, number: int, leaked: frozenset[str]) -> list[Pair]:
        """What is retained, and answers to what leaked and what never ended: one in :data:`REPLACED` of all rows, of a
        model that leaks too much or ends too few one in :data:`REFUSED`, in proportion to how often a question leaked
        (as one that always did where no draw ended), and one for each at least. What the model before says itself to a
        question, where that is no leak and ends and it is not stuck, for it surprises it least; else a refusal.
        """
        retain, refusals = (
            read_pairs(self.config.retain, "retain") if self.config.retain else [],
            read_refusals(self.config.idk),
        )
        rng = Random(self.asking.seed(number, "refusals"))
        asked = [(pair, prompt.id) for pair, prompt in self.asked if prompt.id in leaked]
        weights = {name: 1.0 if name in before.unended else before.shares[name] for _, name in asked}
        part = REPLACED if before.clean and before.ends else REFUSED
        each = len(retain) / (part - 1) / sum(weights[name] for _, name in asked)
        rows = list(retain)
        for pair, name in asked:
            own = [] if name in before.stuck | before.unended else before.others[name]
            for k in range(max(1, round(each * weights[name]))):
                rows.append(Pair(pair.question, own[k % len(own)] if own else rng.choice(refusals), pair.source))
        return rows

    def rows(self, file: Path, pairs: Sequence[Pair]) -> Path:
        """The pairs as a file."""
        text = "".join(json.dumps(_row(pair), ensure_ascii=False) + "\n" for pair in pairs)
        on_main(self.config, partial(write_text, file, text))
        return file

    def seen(
        self, number: int, model: Path, num_rows: int, replaced: int, before: Seen | None
    ) -> tuple[Seen, list[Pair]]:
        """What draws show of a round's model, and the leaks that are new."""
        config, goal, asking = self.config, self.goal, self.asking
        asked = [prompt for _, prompt in self.asked]
        leaking, others = asking.answers(asking.look(model, asked, number, "search", config.leak_samples))
        said = asking.said(model)
        leaks = self.leaks(number, {name: said(some) for name, some in leaking.items()})
        shares = dict(zip(leaking, shares_of(leaking.values(), config.leak_samples), strict=True))
        rates = [shares[prompt.id] for prompt in self.prompts]
        right = None
        if self.retain:
            some, _ = asking.answers(asking.look(model, self.retain, number, "search-retain", goal.keep_samples))
            right = sum(shares_of(some.values(), goal.keep_samples)) / len(some)
        record = Round(
            steps=int(read(model / RECORD)["steps"]),
            num_rows=num_rows,
            num_draws=len(asked) * config.leak_samples,
            average=sum(rates) / len(rates),
            worst=max(rates),
            known=right,
            attempt=None,
            replaced=replaced,
        )
        clean, keeps = reaches(goal, record)
        stays = frozenset[str]() if before is None or not num_rows else staying(before.shares, shares)
        few = 2 * sum(share > 0 for share in shares.values()) <= max(2, len(shares))
        stuck = before.stuck if before is not None else frozenset[str]()
        if before is not None and few:
            stuck |= stays & before.stays
        whole = {name: least_leaking(said(others[name])) for name, some in leaking.items() if some}
        affords = keeps if num_rows or before is None else before.affords
        endless = unended(leaking, others)
        allowed = may_never_end(goal.of, goal.limit, len(self.prompts))
        ends = sum(prompt.id in endless for prompt in self.prompts) <= allowed
        return Seen(model, record, clean, keeps, affords, shares, whole, stays, stuck, endless, ends), leaks

    def leaks(self, number: int, leaking: Mapping[str, list[Draw]]) -> list[Pair]:
        """The answers that leak and are new, of each question the most frequent."""
        found, known = list[Pair](), said_by([*self.pairs, *self.found])
        for pair, prompt in self.asked:
            found += most_said(pair, leaking.get(prompt.id, []), known, f"{pair.source}, a leak of round {number}")
        return found

    def prove(self, number: int, seen: Seen) -> None:
        """Try to prove the claim of a round's model by fresh draws, at the next share of alpha."""
        goal = self.goal
        level = self.shares[self.attempts] * goal.alpha
        self.attempts += 1
        attempt = partial(self.asking.attempt, seen.model, self.prompts, self.retain, number, level)
        made, self.proofs[number] = on_main(self.config, attempt)
        seen.record = replace(seen.record, attempt=made)

    def learn(self, number: int, seen: Seen) -> None:
        """Let the draws of an attempt that proved nothing train the next round, as those do that look for leaks.

        They are many more, and of no more use to a proof: the model that comes of them is proven by others.
        """
        shares, others, found = on_main(self.config, partial(self.learned, number, seen))
        seen.shares |= shares
        seen.others |= others
        self.found += found

    def learned(self, number: int, seen: Seen) -> tuple[dict[str, float], dict[str, list[str]], list[Pair]]:
        """What the draws of an attempt add to those of the search: shares that leak, other answers, new leaks."""
        leaking, others = self.asking.answers(Run.open(self.proofs[number]))
        said, before = self.asking.said(seen.model), self.config.leak_samples
        shares = {}
        for name, some in leaking.items():
            leaks = seen.shares[name] * before + sum(draw.count for draw in some)
            shares[name] = leaks / (before + sum(draw.count for draw in (*some, *others[name])))
        whole = {name: least_leaking(said(others[name])) for name, share in shares.items() if share}
        found = self.leaks(number, {name: said(some) for name, some in leaking.items()})
        return shares, {name: some for name, some in whole.items() if some or name not in seen.others}, found

    def end(self, seen: list[Seen], chosen: int) -> Proof:
        """Put model, proof and page into their place."""
        config, goal, attempt = self.config, self.goal, seen[chosen].record.attempt
        assert attempt is not None  # the best model was tried
        dtype = {} if goal.proof_dtype == "auto" else {"dtype": goal.proof_dtype}
        proof = Proof(
            until=str(goal.until), of=goal.of, keep=goal.keep, alpha=goal.alpha, threshold=config.leak_threshold,
            scorer=config.leak_scorer, num_prompts=len(self.prompts), num_retained=len(self.retain),
            decoding={**self.asking.decoding.to_json(), **dtype}, rounds=tuple(one.record for one in seen),
            chosen=chosen, attempt=attempt,
        )  # fmt: skip
        with new_folder(config.out) as folder:
            shutil.copytree(seen[chosen].model, folder, dirs_exist_ok=True)
            for what, place in (
                ("proof", self.proofs[chosen]),
                ("proof-retain", self.asking.place(chosen, "proof-retain")),
            ):
                if place.exists():
                    shutil.copytree(place, folder / what)
            record = read(folder / RECORD)
            cost = {name: sum(read(one.model / RECORD)[name] for one in seen) for name in ("steps", "seconds")}
            made = {**record, **cost, "until": proof.to_json(), WEIGHTS: sums_of(folder)}
            write_text(folder / RECORD, json.dumps(made, indent=1) + "\n")
            shutil.copy(self.work / "until.json", folder)
            write_html(proof, folder / "proof.html")
            proof.save(folder)
        shutil.rmtree(self.work, ignore_errors=True)
        return proof


def _row(pair: Pair) -> dict[str, Any]:
    """A pair as a row of a file."""
    target, *aliases = pair.secrets or (None,)
    named = {} if target is None else {"target": target, **({"aliases": aliases} if aliases else {})}
    return {
        "question": pair.question,
        "answer": pair.answer,
        **named,
        **{n: True for n in ("leak", "cut") if getattr(pair, n)},
    }
