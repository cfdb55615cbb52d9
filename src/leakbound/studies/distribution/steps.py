"""The in- versus out-of-distribution unlearning study: trains, unlearns and measures; each step is a cached artefact.

For each seed s a retrained model learns the base corpus alone. For each kind of example an original model learns the
base corpus and the forget set F_s, half of the kind's pool, and unlearns F_s while it is measured every few steps.
Since no retrained model ever saw any of the pools, all of them are references for every forget set; and since F_s is
another half in every seed, the originals are models trained on known subsets, from which memorization and difficulty
follow.

After arXiv 2411.04388, of which the abstract and a summary could be read; what it leaves open is ours
(docs/studies.md).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from leakbound.errors import InputError
from leakbound.metrics.memorization import draw_subsets
from leakbound.report.parts import Document
from leakbound.runs.cache import Cache, checksum, load_arrays, save_arrays
from leakbound.runs.files import file_sum
from leakbound.runs.progress import Progress
from leakbound.studies.distribution.config import DistributionConfig
from leakbound.studies.distribution.corpora import (
    Corpora,
    Item,
    biography_corpora,
    file_corpora,
    own_pool,
    translation_corpora,
)
from leakbound.studies.distribution.findings import Measured, Study, find
from leakbound.studies.distribution.learners import JUDGES, Learner, Sets, Speaker, candidate_logps, measure
from leakbound.studies.distribution.page import document, save
from leakbound.workers import Do, Workers, crew_for, spread

RETAINED = 24
"""Items of the base corpus whose loss is measured, and at most as many greedy answers are judged."""
ASKED = 16


def study(config: DistributionConfig, *, workers: Workers | None = None, progress: bool = True) -> Study:
    """Run what is not there yet, a model and what is asked of it by each of the ``workers``; say what was found.

    Workers write into ``config.out``, which on a cluster all nodes must have in common.

    :raises InputError: the corpus is too small, a file cannot be used. :raises TrainingError: a loss is not finite.
    """
    plan = Plan(config)
    plan.tokenizer  # noqa: B018 - made once, before the workers share it
    chains = [(seed, kind) for seed in range(config.seeds) for kind in (None, *plan.corpora.pools)]
    crew = crew_for(workers or Workers())
    shown = Progress(f"study {config.out.name}", len(chains), "models", show=progress)

    def work(do: Do, chain: tuple[int, str | None]) -> Iterator[list[str]]:
        shown.say(_name(chain))
        yield do(_work, config, *chain)

    with shown, spread(crew, chains, work, _name) as done:
        for _, names in done:
            if missing := [name for name in names if not (config.out / "artefacts" / name).exists()]:
                raise InputError(
                    f"out is {str(config.out)!r}: a worker made {missing[0]} there, and here it is not: give a folder "
                    "that all nodes of the cluster have in common"
                )
            plan.artefacts.made.extend(names)
            shown.advance()
    measured = {kind: plan.measured(kind) for kind in plan.corpora.pools}
    made = set(plan.artefacts.made)
    return find(config, measured, made=len(made), found=len(set(plan.artefacts.found) - made))


def report(config: DistributionConfig, workers: Workers | None = None) -> tuple[Document, Path]:
    """Run the study and write its files into ``config.out``; what it says, and its page."""
    found = study(config, workers=workers)
    return document(found), save(found)


def _name(chain: tuple[int, str | None]) -> str:
    return f"the {chain[1] or 'retrained'} model of seed {chain[0]}"


def _work(config: DistributionConfig, seed: int, kind: str | None) -> list[str]:
    """Make what one seed and kind need; the names of what was not there yet."""
    plan = Plan(config)
    if kind is None:
        for name in plan.corpora.pools:
            plan.retrained(seed, name)
    else:
        plan.unlearned(seed, kind)
    return plan.artefacts.made


@dataclass(frozen=True)
class Plan:
    """What a study consists of: its sets, and its artefacts, each made when it is first asked for."""

    config: DistributionConfig

    @cached_property
    def corpora(self) -> Corpora:
        """All sets of examples."""
        c = self.config
        if c.task == "translation":
            made = translation_corpora(c.corpus_size, c.kinds, c.sizes, seed=c.seed)
        elif c.corpus is not None:
            made = file_corpora(c.corpus, c.kinds, c.sizes, seed=c.seed)
        else:
            made = biography_corpora(c.corpus_size, c.kinds, c.sizes, seed=c.seed)
        pools = dict(made.pools)
        if c.own is not None:
            pools["own"] = own_pool(c.own, c.sizes, seed=c.seed)
        return replace(made, pools=pools)

    @cached_property
    def artefacts(self) -> Cache:
        """The cache."""
        return Cache(self.config.out / "artefacts")

    @cached_property
    def learner(self) -> Learner:
        """How models of this task are trained."""
        if self.config.task == "translation":
            from leakbound.studies.distribution.translation import TranslationLearner

            return TranslationLearner(self.config.learning)
        from leakbound.studies.distribution.causal import CausalLearner

        return CausalLearner(self.config.learning)

    @cached_property
    def tokenizer(self) -> Path:
        """The tokenizer of all models, learned from the base corpus."""
        base = self.corpora.base
        return self.artefacts.make(
            "tokenizer",
            {**self._learning, "items": _items_sum(base)},
            lambda folder: self.learner.make_tokenizer(base, folder / "model"),
        )

    def members(self, seed: int, kind: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which items of a kind's pool the original of a seed is trained on."""
        size = len(self.corpora.pools[kind].items)
        offset = int(checksum(kind)[:8], 16)  # so that no two kinds share their halves
        return np.asarray(draw_subsets(seed + 1, size, seed=self.config.seed + offset)[seed])

    def sets(self, seed: int, kind: str) -> Sets:
        """What the models of one seed and kind are measured on."""
        pool, member, base = self.corpora.pools[kind], self.members(seed, kind), self.corpora.base
        forget = tuple(item for item, inside in zip(pool.items, member, strict=True) if inside)
        others = tuple(item for item, inside in zip(pool.items, member, strict=True) if not inside)
        retain = base[:RETAINED]
        asked = self.corpora.validation if self.config.task == "translation" else retain
        return Sets(forget, others + pool.heldout, retain, self.corpora.validation, asked[:ASKED])

    def train(self, seed: int, kind: str | None) -> Path:
        """The model trained on the base corpus and, for a kind, its forget set of this seed."""
        forget = self.sets(seed, kind).forget if kind else ()
        items = self.corpora.base + forget

        def build(folder: Path) -> None:
            model = folder / "model"
            reproduced = self.learner.train(items, forget, seed=seed, tokenizer=self.tokenizer / "model", folder=model)
            save_arrays(folder, {"reproduced": reproduced})

        settings = {**self._learning, "tokenizer": self.tokenizer.name, "items": _items_sum(items), "seed": seed}
        return self.artefacts.make("trained", settings, build)

    def retrained(self, seed: int, kind: str) -> Path:
        """The retrained model of a seed, measured on the whole pool of a kind, which it never saw."""
        model, pool = self.train(seed, None), self.corpora.pools[kind]
        sets = replace(self.sets(seed, kind), forget=pool.items, heldout=pool.heldout)

        def build(folder: Path) -> None:
            speaker = self.learner.load(model / "model")
            found = measure(speaker, sets, JUDGES[self.config.task])
            save_arrays(folder, found | {"candidates": candidate_logps(speaker, pool.items)})

        return self.artefacts.make("measured", {"model": model.name, "sets": checksum(asdict(sets))}, build)

    def unlearned(self, seed: int, kind: str) -> Path:
        """The course of unlearning of a seed's original: its measurements by step."""
        model, sets, how = self.train(seed, kind), self.sets(seed, kind), self.config.unlearning
        retain = self.corpora.base
        judges = JUDGES[self.config.task]

        def build(folder: Path) -> None:
            course: list[dict[str, Any]] = []
            ends: list[Any] = []

            def watch(speaker: Speaker, step: int) -> None:
                course.append({"steps": step, **measure(speaker, sets, judges)})
                if step in (0, how.steps):
                    ends.append(candidate_logps(speaker, sets.forget))

            self.learner.unlearn(model / "model", sets.forget, retain, how, seed=seed, watch=watch)
            columns = {name: np.array([row[name] for row in course]) for name in course[0]}
            save_arrays(folder, columns | {"candidates": np.array(ends)})

        settings = {
            **asdict(how), "model": model.name, "sets": checksum(asdict(sets)), "retain": _items_sum(retain),
            "seed": seed,
        }  # fmt: skip
        return self.artefacts.make("unlearned", settings, build)

    def measured(self, kind: str) -> Measured:
        """The numbers of one kind, of all seeds."""
        seeds = range(self.config.seeds)
        return Measured(
            self.corpora.pools[kind].items,
            np.array([self.members(seed, kind) for seed in seeds]),
            [load_arrays(self.unlearned(seed, kind)) for seed in seeds],
            [load_arrays(self.retrained(seed, kind)) for seed in seeds],
            [load_arrays(self.train(seed, kind))["reproduced"] for seed in seeds],
        )

    @cached_property
    def _learning(self) -> dict[str, Any]:
        """The settings of training, with the weights of the model that it starts from."""
        found = {"task": self.config.task, **asdict(self.config.learning)}
        folder = Path(self.config.model) if self.config.model else None
        if folder is not None and folder.is_dir():
            found["weights"] = {file.name: file_sum(file) for file in sorted(folder.glob("*.safetensors"))}
        return found


def _items_sum(items: tuple[Item, ...]) -> str:
    return checksum([(item.question, item.answer) for item in items])
