"""A method run by its name alone is the published one: the authors' loss of a micro-batch, restated, and its gradient.

Each restatement takes logits of padded rows as the authors' code does and gives one number; ours comes from the
trainer, with nothing but the method's name. What the authors' code does otherwise stands in docs/unlearning.md.
"""

import dataclasses
import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from tiny_models import tiny_model, word_tokenizer
from transformers import TrainingArguments

from leakbound.errors import InputError
from leakbound.unlearning import UnlearnConfig
from leakbound.unlearning.data import IGNORED, Example, PairedData, collate
from leakbound.unlearning.objectives import METHODS, find_objective
from leakbound.unlearning.published import OURS, PUBLISHED, settings_of
from leakbound.unlearning.running import find_pad_id
from leakbound.unlearning.train import passes_of
from leakbound.unlearning.trainer import UnlearningTrainer, Weights, reference_logps

FILES = {"model": "m", "forget": "f.jsonl", "retain": "r.jsonl", "out": "o"}
UNEQUAL = {
    "forget": [((2, 3), (4, 1)), ((3, 2, 4), (5, 5, 2, 3, 1)), ((4,), (2, 2, 1))],
    "retain": [((2, 4), (3, 5, 1)), ((5,), (4, 4, 3, 2, 1)), ((4, 4, 2), (1,))],
}
"""Questions and answers of a micro-batch, as tokens."""
BARE = {"forget": [((3,), (5, 4, 2, 1)), ((2,), (4, 4, 3, 1))], "retain": [((5,), (2, 3, 3, 1)), ((4,), (3, 2, 5, 1))]}
"""Rows of one length whose question is one token: nothing is padding, and every position predicts an answer token."""


def config(method, **settings):
    return UnlearnConfig(**FILES, method=method, **settings)


class Theirs:
    """What an authors' loss reads: logits and labels of rows that are padded to ``length``, of the model and of the
    reference."""

    def __init__(self, model, ref, rows, settings):
        self.model, self.ref, self.rows, self.settings = model, ref, rows, settings

    def read(self, half, kind="answer", length=500, model=None):
        tokens = [[*question, *self.answer(half, kind, i)] for i, (question, _) in enumerate(self.rows[half])]
        ids = torch.tensor([row + [0] * (length - len(row)) for row in tokens])
        labels = ids.clone()
        for i, (question, _) in enumerate(self.rows[half]):
            labels[i, : len(question)] = IGNORED
            labels[i, len(tokens[i]) :] = IGNORED
        mask = (torch.arange(length) < torch.tensor([[len(row)] for row in tokens])).long()
        out = (model or self.model)(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return out.logits, labels, out.hidden_states[1]

    def answer(self, half, kind, i):
        others = {"refusal": (5, 4, 1), "sampled": (3, 3, 4, 1)}
        return self.rows["retain"][i][1] if kind == "mismatch" else others.get(kind, self.rows[half][i][1])

    def nll(self, half, kind="answer", model=None):
        """Summed over each answer."""
        logits, labels, _ = self.read(half, kind, model=model)
        return F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none").sum(1)

    def ce(self, half, kind="answer"):
        """As ``model(..., labels=...)`` gives it: the mean over all scored tokens of the micro-batch."""
        logits, labels, _ = self.read(half, kind)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())

    def counts(self, half, kind="answer"):
        return (self.read(half, kind)[1] != IGNORED).sum(1)

    def kl(self, length=500):
        """torch's kl_div with batchmean over (B x length, V): the sum over everything, divided by B x length."""
        ours, ref = (self.read("retain", length=length, model=m)[0].log_softmax(-1).flatten(0, 1)
                     for m in (self.model, self.ref))  # fmt: skip
        return F.kl_div(ours, ref, reduction="batchmean", log_target=True)

    def tokens(self, half="forget", skip=0):
        """Logits, reference logits and tokens of every scored position of the micro-batch."""
        logits, labels, _ = self.read(half)
        ref = self.read(half, model=self.ref)[0]
        scored = labels[:, 1:] != IGNORED
        scored &= scored.cumsum(1) > skip
        return logits[:, :-1][scored], ref[:, :-1][scored], labels[:, 1:][scored]

    def preference(self, beta=0.1):
        ratios = [self.nll("forget", model=m) - self.nll("forget", "refusal", m) for m in (self.model, self.ref)]
        return -F.logsigmoid(beta * (ratios[0] - ratios[1])).mean() * 2 / beta

    def npo(self, beta=0.1):
        ratios = self.nll("forget") - self.nll("forget", model=self.ref)
        return -F.logsigmoid(beta * ratios).mean() * 2 / beta

    def simnpo(self, beta=2.5, gamma=0.0):
        return -F.logsigmoid(beta * (self.nll("forget") / self.counts("forget") - gamma)).mean() * 2 / beta

    def preservation(self, beta=0.1):
        return -F.logsigmoid(beta * (self.nll("retain", "refusal") - self.nll("retain"))).mean() / beta

    def max_entropy(self):
        logits = self.read("forget")[0][:, :-1]
        uniform = torch.full_like(logits, 1 / logits.shape[-1])
        return F.kl_div((logits.softmax(-1) + 1e-12).log(), uniform, reduction="none").sum(-1).mean()

    def weighted(self, sat, imp=0.0):
        logits, _, labels = self.tokens()
        loss = F.cross_entropy(logits, labels, reduction="none")
        return -((-loss).exp().detach() ** sat * (1 - (-loss).exp().detach()) ** imp * loss).mean()

    def ce_u(self):
        logits, _, labels = self.tokens(skip=1)
        target = logits.detach().scatter(-1, labels[:, None], -math.inf).softmax(-1)
        return F.cross_entropy(logits, target)

    def undial(self, strength=10.0):
        logits, ref, labels = self.tokens()
        soft = (ref - strength * F.one_hot(labels, ref.shape[-1])).softmax(-1)
        return F.cross_entropy(logits, soft.detach())

    def jensun(self, target=(3, 5), floor=1e-9):
        logits, labels, _ = self.read("forget")
        sums, count = 0.0, 0
        for row, wanted in zip(logits[:, :-1], labels[:, 1:], strict=True):
            for turn, place in enumerate(torch.nonzero(wanted != IGNORED)[:, 0]):
                q = F.one_hot(torch.tensor(target[turn % 2]), row.shape[-1]).clamp(min=floor)
                p = row[place].softmax(-1).clamp(min=floor)
                sums, count = sums + self.divergence(p, q.float().clamp(min=floor)), count + 1
        return sums / count

    def jensen_shannon(self):
        logits, ref, _ = self.tokens("retain")
        return self.divergence(logits.softmax(-1), ref.softmax(-1).detach()).mean()

    @staticmethod
    def divergence(p, q):
        m = (p + q) / 2
        return ((p * (p.log() - m.log())).sum(-1) + (q * (q.log() - m.log())).sum(-1)) / 2

    def rmu(self, scale=6.5, weight=1200):
        """Mean squared errors over everything; these rows have no padding."""
        length = len(self.rows["forget"][0][0]) + len(self.rows["forget"][0][1])
        turned = self.read("forget", length=length)[2]
        control = self.settings["direction"].expand_as(turned) * scale
        kept, ref = (self.read("retain", length=length, model=m)[2] for m in (self.model, self.ref))
        return F.mse_loss(turned, control) + weight * F.mse_loss(kept, ref.detach())

    def llmu(self):
        """Answers are averaged one by one; the cross-entropy to the reference has the gradient of the divergence."""
        wrong = self.nll("forget", "mismatch") / self.counts("forget", "mismatch")
        logits = self.read("retain", length=4 + 5)[0]
        ref = self.read("retain", length=4 + 5, model=self.ref)[0].softmax(-1).detach()
        real = torch.arange(9) < torch.tensor([[len(q) + len(a)] for q, a in self.rows["retain"]])
        gaps = torch.where(real, (ref * (ref.log() - logits.log_softmax(-1))).sum(-1), 0.0)
        kept = (gaps.sum(1) / real.sum(1)).mean()
        return -0.5 * (self.nll("forget") / self.counts("forget")).mean() + wrong.mean() + kept


LOSSES = {
    "grad_ascent": lambda t: -t.ce("forget"),
    "grad_diff": lambda t: -t.ce("forget") + t.ce("retain"),
    "grad_ascent_kl": lambda t: -t.ce("forget") + t.kl(),
    "npo": Theirs.npo,
    "npo_gd": lambda t: t.npo() + t.ce("retain"),
    "npo_kl": lambda t: t.npo() + t.kl(),
    "dpo_gd": lambda t: t.preference() + t.ce("retain"),
    "dpo_kl": lambda t: t.preference() + t.kl(),
    "idk_gd": lambda t: t.ce("forget", "refusal") + t.ce("retain"),
    "idk_kl": lambda t: t.ce("forget", "refusal") + t.kl(),
    "idk_ap": lambda t: t.ce("forget", "refusal") + t.preservation(),
    "me_gd": lambda t: 0.1 * t.max_entropy() + t.ce("retain"),
    "simnpo": Theirs.simnpo,
    "simnpo_gd": lambda t: 0.1375 * t.simnpo() + t.ce("retain"),
    "llmu": Theirs.llmu,
    "rmu": Theirs.rmu,
    "undial": Theirs.undial,
    "undial_gd": lambda t: t.undial() + t.ce("retain"),
    "wga": lambda t: t.weighted(5.0),
    "wga_gd": lambda t: t.weighted(1.0) + t.ce("retain"),
    "satimp": lambda t: t.weighted(5.0, 0.1),
    "satimp_gd": lambda t: t.weighted(5.0, 0.1) + 0.1 * t.ce("retain"),
    "ce_u": Theirs.ce_u,
    "ce_u_gd": lambda t: t.ce_u() + t.ce("retain"),
    "jensun": lambda t: t.jensun() + t.jensen_shannon(),
    "pmc": lambda t: t.ce("forget", "sampled") + 1.5 * t.ce("retain"),
}


def compared(tmp_path, method, rows, theirs, **settings):
    """Our loss of a micro-batch and its gradient, and theirs."""
    model, ref, chosen = (
        tiny_model(seed=0, scale=1.0),
        tiny_model(seed=1, scale=1.0),
        config(method, jensun_target="b d", **settings),
    )

    def of(half):
        plain = [Example((*q, *a), (*(IGNORED,) * len(q), *a)) for q, a in rows[half]]
        plain = [dataclasses.replace(e, refusal=e.answered((5, 4, 1))) for e in plain]
        logps, others = (
            reference_logps(ref, some, pad_id=0, batch_size=2) for some in (plain, [e.refusal for e in plain])
        )
        return [
            dataclasses.replace(e, ref_logp=x, refusal=dataclasses.replace(e.refusal, ref_logp=y))
            for e, x, y in zip(plain, logps, others, strict=True)
        ]

    passes = passes_of(model, word_tokenizer(), chosen, lambda: nullcontext(ref))
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", remove_unused_columns=False)
    data = PairedData(of("forget"), of("retain"), seed=0)
    data.partners = list(range(len(data)))
    trainer = UnlearningTrainer(model, args, data, find_objective(method), Weights.of(chosen), pad_id=0, passes=passes)
    batch = trainer.data_collator([data[i] for i in range(len(data))])
    batch["forget"]["sampled"] = collate([e.answered((3, 3, 4, 1)) for e in data.forget], 0)
    found = []
    for loss in (trainer.compute_loss(model, batch), theirs(Theirs(model, ref, rows, {"direction": passes.direction}))):
        model.zero_grad()
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad and p.grad is not None])
        found.append((loss.item(), gradient.clone()))
    return found


@pytest.mark.parametrize("method", list(LOSSES))
def test_a_named_method_is_its_authors_loss(tmp_path, method):
    rows = BARE if method in ("rmu", "undial", "undial_gd") else UNEQUAL
    (ours, gradient), (theirs, slow) = compared(tmp_path, method, rows, LOSSES[method])
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert gradient.norm() > 1e-3
    assert torch.allclose(gradient, slow, rtol=1e-3, atol=1e-5 * float(slow.norm()))


def test_entropies_count_every_position_up_to_256(tmp_path):
    def theirs(t):
        entropies = [torch.distributions.Categorical(logits=t.read(h, length=256)[0]).entropy().mean() for h in t.rows]
        return t.npo(0.05) + t.ce("retain") + entropies[0] - 0.25 * entropies[1]

    weights = {"entropy_forget": 1.0, "entropy_retain": -0.25, "beta": 0.05}
    (ours, gradient), (value, slow) = compared(tmp_path, "npo_gd", UNEQUAL, theirs, **weights)
    assert ours == pytest.approx(value, rel=1e-4)
    assert torch.allclose(gradient, slow, rtol=1e-3, atol=1e-5 * float(slow.norm()))


def test_every_published_name_is_restated_and_every_setting_is_one_of_the_run():
    assert set(LOSSES) == set(PUBLISHED)
    assert set(PUBLISHED) <= set(METHODS.own)
    fields = {field.name for field in dataclasses.fields(UnlearnConfig)}
    assert set(OURS) <= fields
    assert all(set(settings) <= set(OURS) for _, settings in PUBLISHED.values())


@pytest.mark.parametrize("method", list(PUBLISHED))
def test_a_name_alone_takes_the_published_settings_and_ours_takes_ours(method):
    theirs, ours = config(method), config(method, like="ours")
    assert {name: getattr(theirs, name) for name in OURS} == settings_of(method, "published")
    assert {name: getattr(ours, name) for name in OURS} == OURS
    assert not theirs.changed()
    assert theirs.origin() == {"from": PUBLISHED[method][0], "there": {}}


def test_what_the_schedules_of_the_published_methods_are():
    rows = {
        "ME+GD": (4, 8, 5, 1e-5, 0.2), "NPO+GD": (4, 8, 10, 1e-5, 0.1), "SimNPO+GD": (1, 32, 10, 1e-5, 0.1),
        "UNDIAL": (16, 2, 10, 1e-4, 0.1), "JensUn": (4, 8, 10, 8e-6, 0.1), "PMC": (16, 4, 40, 1e-5, 0.025),
        "RMU": (4, 1, 5, 5e-5, 0.0), "LLMU": (2, 1, 5, 2e-6, 0.0), "WGA": (4, 4, 5, 1e-5, 0.2),
        "WGA+GD": (16, 2, 10, 1e-5, 0.1),  # 10 epochs: its experiment goes before the 5 of its trainer
    }  # fmt: skip
    for method, row in rows.items():
        c = config(method)
        assert (c.batch_size, c.accumulation, c.epochs, c.learning_rate, c.warmup) == row, method
    assert [config(method).max_steps for method in ("RMU", "LLMU", "PMC")] == [150, 1000, None]
    assert (config("RMU").weight_decay, config("LLMU").weight_decay) == (0.0, 0.01)  # their AdamW's own


def test_gradients_are_clipped_where_the_authors_training_clips_them():
    """By transformers' default alone; DeepSpeed clips where its own file of settings says so, and theirs do not."""
    assert {method for method in PUBLISHED if config(method).max_grad_norm} == {
        "undial", "undial_gd", "wga_gd", "ce_u", "ce_u_gd"
    }  # fmt: skip
    assert config("NPO+GD", like="ours").max_grad_norm == 1.0


def test_one_setting_changes_one_and_what_follows_from_it():
    one = config("NPO+GD", learning_rate=3e-5)
    assert one.changed() == {"learning_rate": 1e-5}
    assert config("NPO+GD", epochs=4).changed() == {"epochs": 10, "warmup": 0.1}
    assert config("NPO+GD", epochs=4).warmup == 0.25
    assert config("NPO+GD", epochs=1).warmup == 0.0  # one epoch is not all warm-up
    assert config("RMU", epochs=2).max_steps is None  # no number of steps goes before epochs that are given
    assert config("RMU", epochs=2, max_steps=7).max_steps == 7
    assert dataclasses.replace(one, forget=("g.jsonl",)).changed() == {"learning_rate": 1e-5}


@pytest.mark.parametrize("method", ["npo:gd", "mismatch_kl", "ga:none"])
def test_a_pair_of_terms_takes_our_settings(method):
    assert {name: getattr(config(method), name) for name in OURS} == OURS
    assert config(method).origin() == {"from": "ours", "there": {}}


def test_rows_are_padded_with_the_end_of_text_as_theirs_are():
    """Of ME and KL nine positions in ten are padding."""
    tokenizer = word_tokenizer()
    assert find_pad_id(tokenizer) == tokenizer.eos_token_id != tokenizer.pad_token_id


def test_a_model_without_so_many_positions_is_not_padded_to_them():
    with pytest.raises(InputError, match="pad_to is 500: the model has 64 positions, give less"):
        passes_of(tiny_model("gpt2"), word_tokenizer(), config("NPO+KL"), None)


def test_like_is_published_or_ours():
    with pytest.raises(InputError, match="like is 'theirs': give one of published, ours"):
        config("npo", like="theirs")
