"""The two commands that train: ``finetune`` and ``unlearn``. Each writes a model folder that an audit can load."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import TrainerCallback

from leakbound.errors import InputError
from leakbound.models.hf.loading import load_tokenizer, weights_checksum
from leakbound.models.randomness import seed_of
from leakbound.reading.pairs import Pair, read_pairs, read_refusals
from leakbound.runs.cache import checksum, read
from leakbound.runs.files import new_folder, num_processes, sharing
from leakbound.runs.progress import Progress, keeping
from leakbound.unlearning import adapters, running
from leakbound.unlearning.callbacks import CollapseGuard, ShowProgress, newest_checkpoint
from leakbound.unlearning.config import FinetuneConfig, TrainingConfig, UnlearnConfig
from leakbound.unlearning.data import Example, PairedData, with_refusals
from leakbound.unlearning.folders import INPUTS, check_settings, checkpoint_folder, drop_checkpoints, is_kept, of_one
from leakbound.unlearning.groups import Groups
from leakbound.unlearning.leaks import FindLeaks, by_question, find_leaks
from leakbound.unlearning.ledger import rows_checksum
from leakbound.unlearning.losses import random_direction
from leakbound.unlearning.objectives import LEARN, Objective, find_objective
from leakbound.unlearning.passes import REFERENCES, Passes
from leakbound.unlearning.replay import Replay, find_replay, trainer_for
from leakbound.unlearning.rewards import GradeAnswers
from leakbound.unlearning.running import RECORD
from leakbound.unlearning.sampling import AnswerAnew
from leakbound.unlearning.scratch import find_size, new_model, train_tokenizer
from leakbound.unlearning.trainer import UnlearningTrainer, Weights, reference_logps

GUARDED = 64
"""Retain examples whose loss before the training is the guard's start."""


def finetune(config: FinetuneConfig, *, progress: bool = True) -> Path:
    """Train a causal language model to answer the questions of ``config.data``; return the folder it is saved in.

    Minimises the negative log-likelihood per answer token, averaged over the examples, question tokens left out. The
    weights are a function of the configuration and the data on one kind of device. Nothing but checkpoints is left
    behind on failure.

    :raises InputError: data, model or folder cannot be used. :raises TrainingError: the loss is not finite.
    """
    return _finetune(config, None, progress)


def _finetune(config: FinetuneConfig, again: Replay | None, progress: bool) -> Path:
    pairs = read_pairs(config.data, "data")
    inputs = {"data": rows_checksum(pairs)}
    if config.leave_out is not None:
        inputs["leave_out"] = rows_checksum(read_pairs(config.leave_out, "leave_out"))
    if _done(config, inputs):
        return config.out
    with new_folder(config.out) as folder, running.own_randomness():
        if config.from_scratch is None:
            tokenizer = load_tokenizer(str(config.model), trust_remote_code=config.trust_remote_code)
            model = running.load(str(config.model), config)
        else:
            tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else _learn_tokenizer(pairs, config)
            model = new_model(config.from_scratch, tokenizer, seed=config.seed, max_length=config.max_length)
        cost = running.Cost()
        data = PairedData((), running.encode_all(tokenizer, pairs, config), seed=config.seed)
        run = Run(config, folder, tokenizer, progress, inputs | {"start": weights_checksum(model)})
        make = trainer_for(config, pairs, data.retain, model, run.checkpoints, again)
        run.newest = run.newest or (again.checkpoint if again else None)
        trainer = run.train(running.prepare(model, config), data, cost, make=make, objective=LEARN, weights=Weights())
        running.save(trainer, tokenizer, config, folder, cost, run.inputs)
    drop_checkpoints(config)
    return config.out


def unlearn(config: UnlearnConfig, *, progress: bool = True) -> Path:
    """Make a model forget the answers of ``config.forget``; return the folder it is saved in.

    The reference model is the model before the first step, if no other is named. Its log-probabilities are computed
    once; it is kept in memory only for a term that needs its logits or states, with adapters not even then. Several
    forget files are requests that come one after another: each starts from the result of the one before, in ``out/01``,
    ``out/02``, ..., and what later requests name is still retained. Its reference model is where it starts
    (``config.reference`` last), or where the first started (initial). Nothing but checkpoints is left behind on
    failure.

    :raises InputError: data, model or folder cannot be used. :raises TrainingError: the loss is not finite, or the
        model collapses and ``on_collapse`` is stop.
    """
    if config.is_replay:
        again = find_replay(config)
        return _finetune(again.config, again, progress)
    requests = [read_pairs(file, "forget") for file in config.forget]
    permanent = read_pairs(config.retain, "retain") if config.retain else []
    if len(requests) == 1:
        return _unlearn(config, requests[0], permanent, progress)
    if config.out.exists() and any(config.out.iterdir()) and not config.resume:
        raise InputError(
            f"out is {str(config.out)!r}, which exists already: give a new folder, or resume to go on there"
        )
    model, reference = config.model, config.reference_of(config.model)
    for number, forget in enumerate(requests):
        out, files = config.out / f"{number + 1:02d}", (config.forget[number],)
        step = dataclasses.replace(config, model=model, forget=files, out=out, reference=reference)
        later = [pair for request in requests[number + 1 :] for pair in request]
        said = partial("{} of {} requests are kept in {}".format, number, len(requests), config.out)
        with keeping(said, "--resume"):
            _unlearn(step, forget, [*permanent, *later], progress)
        model = str(out)
    return Path(model)


def _done(config: TrainingConfig, inputs: Mapping[str, str] = MappingProxyType({})) -> bool:
    """Whether a run that goes on had ended, with the same settings and rows. Raises RunMismatchError where not."""
    file = config.out / RECORD
    if not config.resume or not file.exists():
        return False
    record, mine = read(file), of_one(running.plain(config), num_processes())
    there = of_one(record["config"], record.get("processes", 1)) | {INPUTS: record.get(INPUTS)}
    check_settings(f"resume: {config.out}", there, mine | {INPUTS: dict(inputs)})
    drop_checkpoints(config)
    return True


def _unlearn(config: UnlearnConfig, pairs: list[Pair], retain_pairs: list[Pair], progress: bool) -> Path:
    objective = find_objective(config.method)
    inputs = {"forget": rows_checksum(pairs), "retain": rows_checksum(retain_pairs)}
    if not (config.forget_weight or config.entropy_forget):  # plain training: an epoch goes through what is retained
        objective, pairs = dataclasses.replace(objective, forget=None), []
    if objective.uses("refusal"):
        inputs["refusals"] = checksum(read_refusals(config.idk))
    if _done(config, inputs):
        return config.out
    with new_folder(config.out) as folder, running.own_randomness():
        tokenizer = load_tokenizer(config.model, trust_remote_code=config.trust_remote_code)
        model = running.load(config.model, config)
        inputs["start"] = weights_checksum(model)
        model = running.prepare(model, config)
        cost = running.Cost()
        run = Run(config, folder, tokenizer, progress, inputs)
        retain = run.encode(retain_pairs, refusals=objective.uses("refusal"))
        references = any(objective.uses(name) for name in REFERENCES)
        again = objective.uses("first_logps") or (config.leak_rounds and objective.uses("ref_logps"))
        reference: Callable[[], Any] | None = None
        if config.other_reference is not None and (references or again or objective.uses("ref_logps")):
            reference = partial(nullcontext, _another(config.other_reference, model, config, inputs))
        elif references or again:
            reference = adapters.reference_of(model)
        guard = None
        if retain and config.on_collapse != "ignore":
            few = retain[:GUARDED]
            start = run.logps(model, few)
            lengths = [len(e.answer) for e in few]
            mean = -sum(logp / n for logp, n in zip(start, lengths, strict=True)) / len(few)
            guard = CollapseGuard(mean, config.collapse_factor, config.on_collapse, run.checkpoints)
        groups = Groups(run.pad_id) if objective.uses("group") else None
        passes = passes_of(model, tokenizer, config, reference if references else None)
        passes = dataclasses.replace(passes, groups=groups)
        anew = AnswerAnew(model, tokenizer, pairs, config) if objective.uses("sampled") else None
        forget: list[Example] = []
        leaks: dict[str, list[Example]] = {}
        rows, new = list(pairs), pairs
        for round in range(config.leak_rounds + 1):
            questions = by_question(rows)
            with reference() if reference is not None else nullcontext(model) as first:
                examples = run.examples(new if groups is None else [one[0] for one in questions], objective, first)
            if not (references or again):
                reference = None  # another model, whose log-probabilities are known now
            extra: list[TrainerCallback] = []
            if groups is not None:
                forget = examples
                given = model, tokenizer, questions, config, groups, round
                graded = reference if objective.uses("advantages") else None
                extra = [FindLeaks(*given) if graded is None else GradeAnswers(*given, reference=graded)]
            else:
                for pair, example in zip(new, examples, strict=True):
                    (leaks.setdefault(pair.question, []) if pair.leak else forget).append(example)
            weighed = partial(run.weighed, model, leaks.values())
            known = running.on_main(config, weighed) if leaks and anew is None else []
            seed = seed_of(config.seed, "round", round) if round else config.seed  # else always the same partners
            data = PairedData(forget, retain, seed=seed, leaks=known)
            trainer = run.train(
                model, data, cost, objective=objective, weights=Weights.of(config), passes=passes, guard=guard,
                anew=anew, callbacks=extra, round=round,
            )  # fmt: skip
            if round < config.leak_rounds:
                model = running.whole(trainer, config, folder)
                look = partial(find_leaks, model, tokenizer, rows, config, round=round, progress=progress)
                new = running.on_main(config, look)
                if not new and config.max_steps is None:
                    break
                rows += new
        running.save(trainer, tokenizer, config, folder, cost, run.inputs)
    trainer.accelerator.wait_for_everyone()  # the next request reads what this one named
    drop_checkpoints(config)
    return config.out


def _another(name: str, model: Any, config: UnlearnConfig, inputs: dict[str, str]) -> Any:
    """A reference model that is not where the training starts; ``inputs`` gets its checksum.

    :raises InputError: it has another number of tokens.
    """
    other = running.load(name, config).eval().requires_grad_(False)
    size, its = (len(m.get_input_embeddings().weight) for m in (model, other))
    if size != its:
        raise InputError(f"reference is {name!r}, of {its} tokens, where {config.model!r} has {size}: give one like it")
    inputs["reference"] = weights_checksum(other)
    return other


def passes_of(model: Any, tokenizer: Any, config: UnlearnConfig, reference: Any) -> Passes:
    """How the model is called; for methods of hidden states also which layers are trained."""
    objective, text = find_objective(config.method), model.config.get_text_config()
    if config.pad_to > (getattr(text, "max_position_embeddings", None) or config.pad_to):
        raise InputError(
            f"pad_to is {config.pad_to}: the model has {text.max_position_embeddings} positions, give less"
        )
    layer = direction = target = None
    if objective.uses("hidden"):
        layer = adapters.choose_layer(model, config.rmu_layer, config.rmu_depth)
        adapters.train_layers(model, layer, config.rmu_part)
        direction = random_direction(text.hidden_size, config.seed)
    if objective.uses("target"):
        tokens = tokenizer(config.jensun_target, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise InputError(f"jensun_target is {config.jensun_target!r}: give a text that has tokens")
        target = torch.tensor(tokens)
    return Passes(layer, direction, config.me_mask, reference, target, config.kl_mask, config.ce_u_skip)


def check_sharing(config: TrainingConfig) -> None:
    """InputError for what cannot be done with weights that processes share out."""
    if not (by := sharing()):
        return
    remedy = f"launch with recipes/ddp.yaml, not with {by}"
    if isinstance(config, UnlearnConfig):
        objective = find_objective(config.method)
        if objective.uses("sampled") or objective.uses("group"):
            raise InputError(f"method is {config.method!r}, which draws from the model in every step: {remedy}")
        if config.leak_rounds and config.lora_rank:
            raise InputError(f"leak_rounds is {config.leak_rounds} beside lora_rank {config.lora_rank}: {remedy}")
    if config.lora_rank and getattr(config, "model", None) is None:
        raise InputError(f"lora_rank is {config.lora_rank} for a model from scratch: {remedy}")


class Run:
    """One call of a command: its settings and folders, and what every training of it shares."""

    def __init__(
        self, config: TrainingConfig, folder: Path, tokenizer: Any, progress: bool, inputs: dict[str, str]
    ) -> None:
        self.config, self.folder, self.tokenizer, self.progress = config, folder, tokenizer, progress
        self.inputs = inputs
        self.pad_id = running.find_pad_id(tokenizer)
        check_sharing(config)
        self.checkpoints: Path | None = None
        self.newest: Path | None = None
        if config.save_every:
            self.checkpoints, self.newest = checkpoint_folder(
                config.out, running.plain(config), resume=config.resume, replayable=is_kept(config), inputs=inputs
            )

    def encode(self, pairs: list[Pair], *, refusals: bool) -> list[Example]:
        """The pairs as tokens, each with a refusal where the objective wants one."""
        config = self.config
        examples = running.encode_all(self.tokenizer, pairs, config)
        if not refusals or not examples:
            return examples
        assert isinstance(config, UnlearnConfig)  # only its objectives use refusals
        sentences = read_refusals(config.idk)
        return with_refusals(examples, pairs, sentences, self.tokenizer, config.template, seed=config.seed)

    def logps(self, model: Any, examples: list[Example]) -> list[float]:
        """The examples' log-probabilities under a model."""
        size, bf16 = self.config.batch_size, self.config.bf16
        return reference_logps(model, examples, pad_id=self.pad_id, batch_size=size, bf16=bf16, show=self.progress)

    def with_references(self, model: Any, examples: list[Example]) -> list[Example]:
        """The examples and their refusals with the reference model's log-probabilities."""
        known = zip(examples, self.logps(model, examples), strict=True)
        examples = [dataclasses.replace(e, ref_logp=logp) for e, logp in known]
        refusals = [e.refusal for e in examples if e.refusal is not None]
        if not refusals:
            return examples
        answered = zip(examples, refusals, self.logps(model, refusals), strict=True)
        return [dataclasses.replace(e, refusal=dataclasses.replace(r, ref_logp=logp)) for e, r, logp in answered]

    def examples(self, pairs: list[Pair], objective: Objective, reference: Any) -> list[Example]:
        """The pairs as tokens, with what the objective needs of each."""
        examples = self.encode(pairs, refusals=objective.uses("refusal"))
        return self.with_references(reference, examples) if objective.uses("ref_logps") else examples

    def weighed(self, model: Any, leaks: Iterable[list[Example]]) -> list[list[tuple[Example, float]]]:
        """The leaks of each question with their probabilities under a model, up to a factor of the question."""
        groups = list(leaks)
        logps = iter(self.logps(model, [example for some in groups for example in some]))
        known = [list(zip(some, islice(logps, len(some)), strict=True)) for some in groups]
        return [[(e, math.exp(logp - max(x for _, x in some))) for e, logp in some] for some in known]

    def train(
        self, model: Any, data: PairedData, cost: running.Cost, *, callbacks: list[TrainerCallback] | None = None,
        make: Callable[..., UnlearningTrainer] = UnlearningTrainer, round: int = 0, **settings: Any,
    ) -> UnlearningTrainer:  # fmt: skip
        """Train, from the newest checkpoint where there is one; a leak round with its share of the steps."""
        title, rounds = getattr(self.config, "method", "finetune"), getattr(self.config, "leak_rounds", 0)
        if isinstance(self.config, UnlearnConfig) and settings["objective"].forget is None:
            title = "retain rows"
        steps = self.config.max_steps and self.config.max_steps // (rounds + 1)
        named = f", leak round {round} of {rounds}" if round else ""
        progress = Progress(f"{title} {self.config.out.name}{named}", 0, "steps", show=self.progress)
        trainer = make(
            model,
            running.arguments(self.config, self.checkpoints or self.folder, max_steps=steps),
            data,
            pad_id=self.pad_id,
            callbacks=[*(callbacks or []), ShowProgress(progress)],
            **settings,
        )
        with keeping(self._said_kept, "--resume" if self.checkpoints else ""), progress:
            if self.newest is None or not trainer.go_to_end(self.newest):
                trainer.train(resume_from_checkpoint=str(self.newest) if self.newest else None)
        cost.add(trainer)
        return trainer

    def _said_kept(self) -> str:
        """What an interrupted training leaves behind."""
        newest = newest_checkpoint(self.checkpoints)
        if newest is not None:
            return f"{newest} is kept"
        return "nothing of this training is kept" + ("" if self.checkpoints else " (checkpoints: --save-every)")


def _learn_tokenizer(pairs: list[Pair], config: FinetuneConfig) -> Any:
    texts = [text for pair in pairs for text in (f" {pair.question}", f" {pair.answer}")]
    return train_tokenizer(texts, find_size(str(config.from_scratch)).vocabulary)
