"""The losses of the field against slow restatements of their formulas in float64, and numbers by hand."""

import math

import pytest
import torch
from slow_losses import LABELS, B, L, V, random_logits, slow_logps, slow_softmax

from leakbound.unlearning import losses
from leakbound.unlearning.data import IGNORED

D = 4
TEXT = torch.tensor([[True] * 4 + [False] * 2, [True] * 6, [True] * 6])
MASKS = {"answer": losses.predicts_answer(LABELS), "text": TEXT, "all": torch.ones(B, L, dtype=torch.bool)}
LOGPS = torch.tensor([-3.0, -10.0, -0.5]).double()
REFS = torch.tensor([-2.0, -1.0, -4.0]).double()
OTHERS = torch.tensor([-20.0, -9.0, -7.5]).double()
OTHER_REFS = torch.tensor([-30.0, -9.5, -2.0]).double()
LENGTHS = torch.tensor([3, 1, 5])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def answer_tokens(labels):
    """For each example the pairs of a position and the token that it predicts."""
    return [[(t - 1, y) for t, y in enumerate(ys) if t > 0 and y != IGNORED] for ys in labels.tolist()]


def mean_over(logits, mask, value):
    return [
        sum(value(b, t, row) for t, row in enumerate(rows) if mask[b][t]) / sum(mask[b][t].item() for t in range(L))
        for b, rows in enumerate(logits.tolist())
    ]


def same(value, slow):
    assert value.dtype == torch.float64
    assert value.tolist() == pytest.approx(slow, abs=1e-6)


@pytest.mark.parametrize(("beta", "gamma"), [(2.5, 0.0), (4.5, 0.125), (0.1, 1.0)])
def test_simnpo(beta, gamma):
    slow = [
        -(2 / beta) * math.log(sigmoid(-(beta / n) * lp - gamma))
        for lp, n in zip(LOGPS.tolist(), [3, 1, 5], strict=True)
    ]
    same(losses.simnpo(LOGPS, LENGTHS, beta=beta, gamma=gamma), slow)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dpo(beta):
    quadruples = zip(LOGPS.tolist(), REFS.tolist(), OTHERS.tolist(), OTHER_REFS.tolist(), strict=True)
    slow = [-(2 / beta) * math.log(sigmoid(beta * ((o - lp) - (oref - ref)))) for lp, ref, o, oref in quadruples]
    same(losses.dpo(LOGPS, REFS, OTHERS, OTHER_REFS, beta=beta), slow)


def test_dpo_starts_at_two_over_beta_times_ln_two():
    assert losses.dpo(LOGPS, LOGPS, OTHERS, OTHERS, beta=0.5).tolist() == pytest.approx([4 * math.log(2)] * 3)


def test_answer_preservation_and_its_gradient_weight():
    beta = 0.1
    slow = [
        -(1 / beta) * math.log(sigmoid(beta * (-o - -lp)))
        for lp, o in zip(LOGPS.tolist(), OTHERS.tolist(), strict=True)
    ]
    same(losses.answer_preservation(LOGPS, OTHERS, beta=beta), slow)  # with l = -log p: l(y'|x) - l(y|x)
    logps = LOGPS.clone().requires_grad_()
    losses.answer_preservation(logps, OTHERS, beta=beta).sum().backward()
    weights = [
        1 / (1 + (math.exp(lp) / math.exp(o)) ** beta) for lp, o in zip(LOGPS.tolist(), OTHERS.tolist(), strict=True)
    ]
    assert (-logps.grad).tolist() == pytest.approx(weights)


def test_llmu_and_mismatch():
    lengths = torch.tensor([2, 2, 4])
    same(losses.mismatch(OTHERS, lengths), [10.0, 4.5, 7.5 / 4])
    slow = [-3 / 3 + 0.5 * 10, -10 / 1 + 0.5 * 4.5, -0.5 / 5 + 0.5 * 7.5 / 4]
    same(losses.llmu(LOGPS, LENGTHS, OTHERS, lengths, mismatch_weight=0.5), slow)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_wga(power):
    logits = random_logits(1)
    slow = []
    for rows, tokens in zip(logits.tolist(), answer_tokens(LABELS), strict=True):
        probs = [slow_softmax(rows[t])[y] for t, y in tokens]
        slow.append(sum(p**power * math.log(p) for p in probs) / len(probs))
    same(losses.wga(logits, LABELS, power=power), slow)
    if power == 0.0:  # then it is gradient ascent
        same(
            losses.wga(logits, LABELS, power=power),
            [lp / n for lp, n in zip(slow_logps(logits, LABELS), [3, 1, 5], strict=True)],
        )


@pytest.mark.parametrize(("saturation", "importance"), [(5.0, 1.0), (1.0, 0.0), (0.5, 2.0)])
def test_satimp(saturation, importance):
    logits = random_logits(2)
    slow = []
    for rows, tokens in zip(logits.tolist(), answer_tokens(LABELS), strict=True):
        probs = [slow_softmax(rows[t])[y] for t, y in tokens]
        slow.append(sum(p**saturation * (1 - p) ** importance * math.log(p) for p in probs) / len(probs))
    same(losses.satimp(logits, LABELS, saturation=saturation, importance=importance), slow)


@pytest.mark.parametrize("name", ["wga", "satimp"])
def test_the_weights_of_tokens_are_held_constant(name):
    # one token with probability p: d/dz_y (w log p) = w (1 - p)
    logits = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[IGNORED, 0]])
    p = sigmoid(1.0)
    settings = {"wga": {"power": 2.0}, "satimp": {"saturation": 2.0, "importance": 1.0}}[name]
    getattr(losses, name)(logits, labels, **settings).sum().backward()
    weight = p**2 * {"wga": 1, "satimp": 1 - p}[name]
    assert logits.grad[0, 0, 0].item() == pytest.approx(weight * (1 - p))


@pytest.mark.parametrize("mask", ["answer", "text", "all"])
@pytest.mark.parametrize("direction", ["model", "uniform"])
def test_max_entropy(mask, direction):
    logits = random_logits(3)

    def kl(_b, _t, row):
        p = slow_softmax(row)
        if direction == "model":
            return sum(x * math.log(x / (1 / V)) for x in p)
        return sum((1 / V) * math.log((1 / V) / x) for x in p)

    same(losses.max_entropy(logits, MASKS[mask], direction=direction), mean_over(logits, MASKS[mask], kl))


def test_max_entropy_by_hand_and_over_padding():
    # p = (3/4, 1/4): KL(P||U) = ln 2 - H(p), KL(U||P) = -ln 2 - (ln 3/4 + ln 1/4) / 2; padding at the uniform adds 0s
    logits = torch.log(torch.tensor([[[3.0, 1.0], [1.0, 1.0]]]))
    both = torch.ones(1, 2, dtype=torch.bool)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    reverse = -math.log(2) - (math.log(0.75) + math.log(0.25)) / 2
    first = torch.tensor([[True, False]])
    assert losses.max_entropy(logits, first, direction="model").item() == pytest.approx(math.log(2) - entropy, abs=1e-6)
    assert losses.max_entropy(logits, first, direction="uniform").item() == pytest.approx(reverse, abs=1e-6)
    assert losses.max_entropy(logits, both, direction="uniform").item() == pytest.approx(reverse / 2, abs=1e-6)
    with pytest.raises(ValueError, match="direction is 'up'"):
        losses.max_entropy(logits, both, direction="up")


def test_max_entropy_is_that_of_the_authors_code_with_the_mask_all():
    """torch's kl_div(log P, U) averaged over every position, padding included."""
    logits = random_logits(4)
    uniform = torch.full((B, L, V), 1 / V, dtype=torch.float64)
    theirs = torch.nn.functional.kl_div(logits.log_softmax(-1), uniform, reduction="none").sum(-1).mean(-1)
    same(losses.max_entropy(logits, MASKS["all"], direction="uniform"), theirs.tolist())


def test_undial():
    logits, ref, strength = random_logits(5), random_logits(6), 3.0
    slow = []
    for rows, ref_rows, tokens in zip(logits.tolist(), ref.tolist(), answer_tokens(LABELS), strict=True):
        values = []
        for t, y in tokens:
            target = slow_softmax([z - strength * (v == y) for v, z in enumerate(ref_rows[t])])
            values.append(-sum(q * math.log(p) for q, p in zip(target, slow_softmax(rows[t]), strict=True)))
        slow.append(sum(values) / len(values))
    same(losses.undial(logits, ref, LABELS, strength=strength), slow)


def test_ce_u():
    logits = random_logits(7)
    slow = []
    for rows, tokens in zip(logits.tolist(), answer_tokens(LABELS), strict=True):
        values = []
        for t, y in tokens:
            p = slow_softmax(rows[t])
            target = [0.0 if v == y else x / (1 - p[y]) for v, x in enumerate(p)]
            values.append(-sum(q * math.log(x) for q, x in zip(target, p, strict=True)))
        slow.append(sum(values) / len(values))
    same(losses.ce_u(logits, LABELS), slow)


def test_ce_u_pushes_the_answer_down_by_its_probability():
    logits = random_logits(8).requires_grad_()
    losses.ce_u(logits, LABELS).sum().backward()
    for b, tokens in enumerate(answer_tokens(LABELS)):
        for t, y in tokens:  # d/dz_y of the cross-entropy is p_y - q_y, and q_y is 0
            p = slow_softmax(logits[b, t].tolist())[y]
            assert logits.grad[b, t, y].item() == pytest.approx(p / len(tokens))


def js(p, q):
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    kl = [sum(a * math.log(a / b) for a, b in zip(x, m, strict=True) if a > 0) for x in (p, q)]
    return sum(kl) / 2


def test_jensen_shannon_to_tokens():
    logits = random_logits(9)
    slow = []
    for rows, tokens in zip(logits.tolist(), answer_tokens(LABELS), strict=True):
        values = [js(slow_softmax(rows[t]), [float(v == y) for v in range(V)]) for t, y in tokens]
        slow.append(sum(values) / len(values))
    same(losses.jensen_shannon_to_tokens(logits, LABELS), slow)


@pytest.mark.parametrize("mask", ["answer", "text", "all"])
def test_jensen_shannon(mask):
    logits, ref = random_logits(10), random_logits(11)
    slow = mean_over(logits, MASKS[mask], lambda b, t, row: js(slow_softmax(row), slow_softmax(ref[b, t].tolist())))
    same(losses.jensen_shannon(logits, ref, MASKS[mask]), slow)
    assert losses.jensen_shannon(logits, logits, MASKS[mask]).tolist() == pytest.approx([0.0] * B, abs=1e-12)


def test_rmu_and_its_retain_side():
    hidden = torch.randn(B, L, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ref = torch.randn(B, L, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u = losses.random_direction(D, 7).double()
    slow = mean_over(
        hidden, TEXT, lambda b, t, h: sum((x - 6.5 * y) ** 2 for x, y in zip(h, u.tolist(), strict=True)) / D
    )
    same(losses.rmu(hidden, u, TEXT, scale=6.5), slow)
    slow = mean_over(
        hidden, TEXT, lambda b, t, h: sum((x - y) ** 2 for x, y in zip(h, ref[b, t].tolist(), strict=True)) / D
    )
    same(losses.rmu_retain(hidden, ref, TEXT), slow)


def test_the_random_direction_is_a_unit_vector_of_its_seed():
    u = losses.random_direction(64, 0)
    assert u.norm().item() == pytest.approx(1.0)
    assert (u >= 0).all()
    assert torch.equal(u, losses.random_direction(64, 0))
    assert not torch.equal(u, losses.random_direction(64, 1))


@pytest.mark.parametrize("impossible", ["answer", "other"])
def test_impossible_tokens_give_no_nan(impossible):
    logits = random_logits(12, torch.float32)
    token = 1 if impossible == "answer" else 0
    labels = torch.tensor([[IGNORED, 1, 1, 1, IGNORED, IGNORED]] * B)
    logits[:, :, token] = -math.inf
    ref = random_logits(13, torch.float32)
    ref[:, :, 2] = -math.inf
    logits.requires_grad_()
    every = MASKS["all"]
    values = [
        losses.wga(logits, labels, power=1.0),
        losses.satimp(logits, labels, saturation=5.0, importance=1.0),
        losses.max_entropy(logits, every, direction="model"),
        losses.jensen_shannon_to_tokens(logits, labels),
        losses.jensen_shannon(logits, ref, every),
        losses.ce_u(logits, labels),
    ]
    sum(value.sum() for value in values).backward()
    assert all(torch.isfinite(value).all() for value in values)
    assert torch.isfinite(logits.grad).all()
    never = torch.tensor([-math.inf])
    for value in (
        losses.dpo(never, never, never, never, beta=0.1),
        losses.answer_preservation(never, never, beta=0.1),
        losses.npo(never, never, beta=0.1),
        losses.simnpo(never, torch.tensor([2]), beta=2.5, gamma=0.0),
        losses.grad_ascent(never, torch.tensor([2])),
        losses.undial(logits.detach(), ref, labels, strength=10.0),
    ):
        assert not torch.isnan(value).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    logits, ref = random_logits(14, dtype), random_logits(15, dtype)
    for value, exact in (
        (losses.ce_u(logits, LABELS), losses.ce_u(logits.double(), LABELS)),
        (
            losses.undial(logits, ref, LABELS, strength=3.0),
            losses.undial(logits.double(), ref.double(), LABELS, strength=3.0),
        ),
        (losses.jensen_shannon(logits, ref, TEXT), losses.jensen_shannon(logits.double(), ref.double(), TEXT)),
        (losses.wga(logits, LABELS, power=1.0), losses.wga(logits.double(), LABELS, power=1.0)),
        (
            losses.max_entropy(logits, TEXT, direction="model"),
            losses.max_entropy(logits.double(), TEXT, direction="model"),
        ),
    ):
        assert value.dtype == torch.float32
        assert value.tolist() == pytest.approx(exact.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.dpo(torch.zeros(2), torch.zeros(2), torch.zeros(3), torch.zeros(2), beta=0.1),
        lambda: losses.answer_preservation(torch.zeros(2), torch.zeros(3), beta=0.1),
        lambda: losses.wga(torch.zeros(2, 3, 4), torch.zeros(2, 2, dtype=torch.long), power=1.0),
        lambda: losses.undial(
            torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long), strength=1.0
        ),
        lambda: losses.ce_u(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)),
        lambda: losses.max_entropy(torch.zeros(2, 3, 4), torch.ones(2, 2), direction="model"),
        lambda: losses.jensen_shannon(torch.zeros(2, 3, 4), torch.zeros(2, 2, 4), torch.ones(2, 3)),
        lambda: losses.rmu(torch.zeros(2, 3, 4), torch.zeros(4), torch.ones(2, 4), scale=1.0),
        lambda: losses.rmu_retain(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.ones(2, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match=r"\(\d"):
        call()
