"""transformers: an audit of the model every so many steps of a training, logged where the Trainer reports to.

::

    LeakAudit("prompts.jsonl", every=100, until="leak<=0.01", stop=True).attach(trainer)

Training goes on as if nobody had looked: the draws have random numbers of their own, and modes and the state of all
generators are put back. Why the statements hold: the look after step k is about a model that is a function of data,
settings and looks before it, by draws of a seed that no other look has, at its share of alpha. The number of looks is
fixed when training begins (:func:`~leakbound.bounds.look_shares`), so each kind of statement by itself (the bound on
the average prompt, that on every prompt, the verdict) holds at all looks together with probability at least 1 - alpha,
whichever look one stops at, or picks a checkpoint by.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

from leakbound.auditing.drawing import Prompts, Statement, open_scorable
from leakbound.auditing.steps import audit
from leakbound.bounds import look_shares
from leakbound.errors import InputError
from leakbound.records import SamplingParams, check_count
from leakbound.results.audit import Audit
from leakbound.results.verdicts import audit_verdict


class LeakAudit(TrainerCallback):  # type: ignore[misc]
    """Audits the model every ``every`` steps and at the end, and logs bounds on P(leak) as ``eval_leak_...``.

    ``alpha`` covers all looks of the training. With ``until`` ("leak<=0.01") each prompt is drawn until that is
    settled, with ``num_samples`` as budget, and ``stop`` ends the training once it is proven of every prompt at once;
    it is not where every draw of a prompt was cut before it leaked.
    ``out`` keeps the run folder of each look. ``tokenizer`` is by default the Trainer's. One process of several
    audits, the others wait for it. InputError where the model's weights are spread over processes.
    """

    def __init__(
        self,
        prompts: Prompts,
        *,
        every: int,
        scorer: str = "contains",
        threshold: float = 0.5,
        alpha: float = 0.01,
        num_samples: int = 256,
        until: str | None = None,
        stop: bool = False,
        params: SamplingParams | None = None,
        template: str = "auto",
        tokenizer: Any = None,
        seed: int = 0,
        out: str | Path | None = None,
    ) -> None:
        check_count("every", every, least=1)
        if stop and until is None:
            raise InputError("stop is True and until is None: give what shall be proven, such as leak<=0.01")
        self.statement = Statement(scorer, threshold, alpha)
        self.prompts = open_scorable(prompts, self.statement)
        self.every, self.until, self.stop, self.seed = every, until, stop, seed
        self.num_samples, self.params, self.template, self.tokenizer = num_samples, params, template, tokenizer
        self.out = None if out is None else Path(out)
        self.trainer: Trainer | None = None
        self.last: Audit | None = None
        """The last look's audit, at its share of alpha; None on processes that do not audit."""
        self.proven: bool | None = None
        """Whether ``until`` was proven of every prompt at the last look; None without it."""
        self._looked = -1

    def attach(self, trainer: Trainer) -> LeakAudit:
        """Add this to the Trainer; what it finds goes through its log."""
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise InputError("trainer spreads the weights over processes: audit its checkpoints with leakbound audit")
        self.trainer = trainer
        trainer.add_callback(self)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The looks are counted before the first one."""
        if self.trainer is None:
            raise InputError("trainer is None: use LeakAudit(...).attach(trainer), so that it can log")
        if self._looked >= 0 and state.global_step == 0:
            raise InputError(
                "LeakAudit has spent its alpha and its seed on another training: attach a new one to each, and have "
                "their alphas sum to what all of them may err with"
            )
        self._shares = look_shares(state.max_steps // self.every + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """A look every so many steps."""
        if state.global_step % self.every == 0:
            self._look(state, model, state.global_step // self.every - 1)
            if self.stop and self.proven:
                control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """The last look, unless the model that is left is the one that was looked at last."""
        if state.global_step != self._looked or (args.load_best_model_at_end and state.best_model_checkpoint):
            self._look(state, model, len(self._shares) - 1)

    def _look(self, state: Any, model: Any, number: int) -> None:
        """One look, at its share of alpha; what it found is the same on all processes."""
        trainer, several = self.trainer, torch.distributed.is_available() and torch.distributed.is_initialized()
        assert trainer is not None  # on_train_begin said so
        found: list[Any] = [None, {}]
        if state.is_world_process_zero:
            found = self._audit(model, number, state.global_step)
        if several:
            torch.distributed.broadcast_object_list(found, src=0)
        self.proven, values = found
        self._looked, due = state.global_step, trainer.control.should_log
        trainer.log(values)
        trainer.control.should_log = due  # the loss of this step too

    def _audit(self, model: Any, number: int, step: int) -> list[Any]:
        """Whether ``until`` is proven, and what is logged."""
        assert self.trainer is not None  # as above
        if hasattr(model, "get_base_model") and not model.active_peft_config.is_prompt_learning:
            model = model.get_base_model()  # with the adapter in its layers: the same law, and a cache
        level = self._shares[number] * self.statement.alpha
        with untouched(model):
            found = self.last = audit(
                model, self.prompts, scorer=self.statement.scorer, threshold=self.statement.threshold, alpha=level,
                num_samples=self.num_samples, params=self.params, until=self.until, template=self.template,
                tokenizer=self.tokenizer or self.trainer.processing_class, seed=_seed(self.seed, number),
                progress=False, out=None if self.out is None else self.out / f"step-{step}-look-{number}",
            )  # fmt: skip
        values = {
            "eval_leak_average": found.mean_leak.estimate,
            "eval_leak_average_upper": found.mean_leak.upper,
            "eval_leak_worst": found.worst_prompt.estimate,
            "eval_leak_worst_upper": found.worst_prompt.upper,
            "eval_leak_alpha": level,
        }
        if self.until is None:
            return [None, values]
        verdict = audit_verdict(found)
        return [verdict == "proven", {**values, "eval_leak_proven": float(verdict == "proven")}]


def _seed(seed: int, number: int) -> int:
    """The seed of one look: a hash, so that none has draws of another."""
    return int.from_bytes(hashlib.blake2b(f"{seed}|look|{number}".encode(), digest_size=6).digest(), "little")


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Afterwards the model's modes and the states of all random number generators are as before."""
    modes = [(module, module.training) for module in model.modules()]
    mine, numpys, devices = random.getstate(), np.random.get_state(), torch.cuda.is_available()  # noqa: NPY002
    torchs, cudas = torch.get_rng_state(), torch.cuda.get_rng_state_all() if devices else []
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        random.setstate(mine)
        np.random.set_state(numpys)  # noqa: NPY002
        torch.set_rng_state(torchs)
        if devices:
            torch.cuda.set_rng_state_all(cudas)
