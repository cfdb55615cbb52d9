"""A few steps of the trainer on a model of two layers."""

import dataclasses

import numpy as np
import torch
from transformers import TrainerCallback, TrainingArguments

from leakbound.unlearning import adapters
from leakbound.unlearning.data import IGNORED, Example, PairedData
from leakbound.unlearning.groups import Graded, Group, Groups
from leakbound.unlearning.losses import random_direction
from leakbound.unlearning.objectives import find_objective
from leakbound.unlearning.passes import Passes
from leakbound.unlearning.trainer import UnlearningTrainer, Weights, reference_logps

FORGET = [Example((2, 3, 4, 1), (IGNORED, IGNORED, 4, 1)), Example((3, 2, 5, 5, 1), (IGNORED, IGNORED, 5, 5, 1))]


RETAIN = [Example((2, 4, i, 1), (IGNORED, IGNORED, i, 1)) for i in (2, 3, 4, 5)] + [
    Example((5, 2, 4, 4, 3, 1), (IGNORED, IGNORED, 4, 4, 3, 1)),
    Example((4, 4, 2, 1), (IGNORED, 4, 2, 1)),
]


def train(
    model, tmp_path, *, objective="npo_gd", weights=None, forget=FORGET, retain=RETAIN, guard=None, anew=None,
    groups=None, callbacks=(), **arguments,
):  # fmt: skip
    settings = {"learning_rate": 1e-3, "num_train_epochs": 3, "per_device_train_batch_size": 2, "seed": 0} | arguments
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", save_strategy="no", logging_steps=1,
        disable_tqdm=True, remove_unused_columns=False, **settings,
    )  # fmt: skip
    objective = find_objective(objective)
    if objective.uses("sampled") and anew is None:
        anew = same_answers
    if objective.uses("refusal"):
        forget, retain = refusing(forget), refusing(retain)
    if objective.uses("ref_logps"):
        forget = referred(model, forget)
        if objective.uses("refusal"):
            refusals = referred(model, [e.refusal for e in forget])
            forget = [dataclasses.replace(e, refusal=r) for e, r in zip(forget, refusals, strict=True)]
    reference = adapters.reference_of(model) if objective.uses("ref_laws") else None
    passes = Passes(reference=reference, target=torch.tensor([3, 5]))
    if objective.uses("hidden"):
        adapters.train_layers(model, 1)
        width = model.config.get_text_config().hidden_size
        passes = Passes(1, random_direction(width, 0), reference=adapters.reference_of(model))
    if objective.uses("group"):
        if groups is None:
            forget = [dataclasses.replace(e, question=str(i)) for i, e in enumerate(forget)]
            groups = grouped(model, forget)
        passes = dataclasses.replace(passes, groups=groups)
    data = PairedData(forget, retain, seed=0)
    trainer = UnlearningTrainer(
        model, args, data, objective, weights or Weights(), pad_id=0, passes=passes, guard=guard, anew=anew,
        callbacks=callbacks,
    )  # fmt: skip
    trainer.train()
    return trainer


def grouped(model, examples):
    """Groups of one answer each, drawn from the model as it is and judged bad."""
    groups = {e.question: Group(e.prompt, (e.answer,)) for e in examples}
    with torch.no_grad():
        logps = Groups(0, groups=groups).read(model, list(groups)).token_logps[:, 0].double().numpy()
    one = np.ones(1)
    for (question, group), row in zip(list(groups.items()), logps, strict=True):
        known = [row[: len(group.tails[0])]]
        groups[question] = dataclasses.replace(group, graded=Graded(one, -one, known, known))
    return Groups(0, groups=groups)


def same_answers(questions, step):
    return {question: Example((2, 3, 3, 1), (IGNORED, IGNORED, 3, 1)) for question in questions}


def refusing(examples):
    return [dataclasses.replace(e, refusal=e.answered((5, 4, 1))) for e in examples]


def referred(model, examples):
    logps = reference_logps(model, examples, pad_id=0, batch_size=2)
    return [dataclasses.replace(e, ref_logp=logp) for e, logp in zip(examples, logps, strict=True)]


class Killed(TrainerCallback):
    """Ends the process's training in the middle of a step, as a kill would."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt
