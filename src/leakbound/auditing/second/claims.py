"""What an audit or a certification claims, one by one, and whether its draws prove that a second way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from leakbound.auditing.second import average, draws, masses, tails
from leakbound.auditing.second.average import Drawn
from leakbound.errors import IncompleteRunError
from leakbound.records import Draw
from leakbound.results.audit import Audit, PromptAudit
from leakbound.results.certificate import Certification

Said = Iterator[tuple[str, str, bool]]
"""Of whom something is claimed, what, and whether it is proven."""
Scored = Sequence[tuple[Draw, float]]


def proven(said: Said) -> int:
    """How many claims there are; IncompleteRunError for the first one that is not proven."""
    number = 0
    for who, claim, right in said:
        if not right:
            raise IncompleteRunError(f"{who}: the draws do not prove {claim}")
        number += 1
    return number


def leak(h: float, threshold: float) -> float:
    """1 where a score reaches the threshold, to a rounding of either."""
    return float(h >= threshold - min(1e-9, threshold / 2))


@dataclass(frozen=True)
class Claims:
    """An audit, the scored draws of each of its prompts by id, and whether the scores are 0 and 1 by declaration."""

    audit: Audit
    drawn: Mapping[str, Scored]
    binary: bool

    @property
    def sizes(self) -> Sequence[int] | None:
        """The rounds at which drawing may have stopped."""
        sizes: Sequence[int] | None = self.audit.run.get("rule", {}).get("sizes")
        return sizes

    def of(self, p: PromptAudit, *, leaks: bool) -> Drawn:
        """The scores of a prompt, or 1 for those that leak."""
        scores = [(draw, leak(h, self.audit.threshold) if leaks else h) for draw, h in self.drawn[p.prompt.id]]
        if p.limits is not None:
            return tuple(h for _, h in scores), tuple(min(math.exp(d.logprob or 0.0), 1.0) for d, _ in scores), True
        counts: Counter[float] = Counter()
        for draw, h in scores:
            counts[h] += draw.count
        return tuple(sorted(counts)), tuple(float(counts[h]) for h in sorted(counts)), False

    def counted(self, p: PromptAudit) -> tuple[int, int]:
        """The leaks and draws of a prompt with independent draws."""
        h, counts, _ = self.of(p, leaks=True)
        return int(sum(x * k for x, k in zip(h, counts, strict=True))), int(sum(counts))

    def chance(self, k: int, n: int, p: float) -> Decimal:
        """How likely k or fewer leaks are, at most, where P(leak) is p, wherever drawing may have stopped."""
        rule, fixed = self.audit.run.get("rule"), self.audit.run["statement"]
        if not rule:
            return tails.at_most_probability(k, n, p)
        if (self.audit.scorer, self.audit.threshold) != (fixed["scorer"], fixed["threshold"]) or rule["width"] is None:
            return tails.against_mixture(k, n, p)
        sizes = [size for size in rule["sizes"] if size <= n]
        if n != sizes[-1] or (n != rule["sizes"][-1] and min(k, n - k) > rule["low"][len(sizes) - 1]):
            raise IncompleteRunError(f"{k} leaks in {n} draws do not end a run of the width {rule['width']}")
        return Decimal(tails.rank_probability(k, sizes, rule["low"], p))

    def leaks(self) -> Said:
        """P(leak) of each prompt, alone and jointly, and of every prompt."""
        one, number = Decimal(self.audit.alpha), Decimal(len(self.audit.prompts))
        jointly = 1 - tails.ARITHMETIC.power(1 - one, 1 / number)
        for p in self.audit.prompts:
            for bound, alpha in ((p.leak, one), (p.leak_jointly, jointly)):
                if p.limits is None:
                    likely = 0 if bound.upper >= 1 else self.chance(*self.counted(p), bound.upper)
                    right = likely <= alpha * (1 + Decimal("1e-12"))
                else:
                    h, mass, _ = self.of(p, leaks=True)
                    right = masses.refutes(mass, h, bound.upper, float(alpha))
                    right &= masses.certain(mass, h, p.limits.lower, p.limits.upper)
                yield f"prompt {p.prompt.id!r}", bound.claim, right
        worst = self.audit.worst_prompt
        yield "every prompt", worst.claim, all(p.leak.upper <= worst.upper for p in self.audit.prompts)

    def moments(self) -> Said:
        """E[h], sd and mean + 2 sd of each prompt."""
        alpha, known = self.audit.alpha, dict[Any, list[bool]]()
        for p in self.audit.prompts:
            bounds, mine = (p.mean, p.std, p.ed_bound), self.drawn[p.prompt.id]
            claims = p.mean.upper, p.std.upper, p.ed_bound.upper
            if p.limits is not None:
                h, mass, _ = self.of(p, leaks=False)
                right = [masses.refutes(mass, h, claims[0], alpha)]
                right += [masses.spread_holds(mass, h, claims[i], 2.0 * (i - 1), alpha) for i in (1, 2)]
            elif p.mean.method.startswith("Anderson"):  # the band of the paper; mean + 2 sd by a bet also there
                h, counts, _ = self.of(p, leaks=False)
                level = draws.level_of(p.mean.n, alpha, self.sizes)
                most = draws.largest_near(h, counts, level)
                right = [claim >= least - 1e-12 for claim, least in zip(claims, most, strict=False)]
                right += draws.graded(mine, (*tails.MOST[:2], claims[2]), level)[2:]
            elif self.binary and self.sizes:
                right = tails.follow(p.leak.upper, claims)
            elif self.binary:
                right = tails.two_tails(*self.counted(p), alpha, claims)
            else:
                key = claims, *((draw.count, draw.places, h) for draw, h in mine)  # many prompts never leak
                right = known[key] = known.get(key) or draws.graded(mine, claims, alpha, self.sizes)
            for bound, said in zip(bounds, right, strict=True):
                yield f"prompt {p.prompt.id!r}", bound.claim, said

    def bands(self) -> Said:
        """P(h > x) for all x at once; prompts with as many draws have the same levels, which are summed once."""
        together: dict[tuple[int, bool], dict[int, float]] = {}
        for p in self.audit.prompts:
            h, counts, distinct = self.of(p, leaks=False)
            band = p.survival
            if distinct:
                right = masses.band_holds(counts, h, band.thresholds, band.upper, self.audit.alpha)
                yield f"prompt {p.prompt.id!r}", "its band", right
                continue
            least = together.setdefault((int(sum(counts)), band.method.startswith("Dvoretzky")), {})
            for x, claim in zip(band.thresholds, band.upper, strict=True):
                below = int(sum(k for v, k in zip(h, counts, strict=True) if v <= x))
                least[below] = min(claim, least.get(below, claim))
        for (n, paper), least in together.items():
            holds = draws.everywhere_near if paper else draws.band_holds
            right = holds(least, n, draws.level_of(n, self.audit.alpha, self.sizes))
            yield f"prompts with {n} draws", "all of their bands", right

    def averages(self) -> Said:
        """P(leak) and E[h] of the average prompt."""
        audit, alpha = self.audit, self.audit.alpha
        mean, score = audit.mean_leak, audit.mean_score
        if len(audit.prompts) == 1:  # the average of one prompt is that prompt
            (only,) = audit.prompts
            for bound, own in ((mean, only.leak), (score, only.mean)):
                yield "the average prompt", bound.claim, bound.upper >= own.upper
            return
        fixed = not self.sizes and all(p.limits is None for p in audit.prompts)
        if fixed:
            k, n = (sum(some) for some in zip(*map(self.counted, audit.prompts), strict=True))
            right = average.pooled_holds(k, n, mean.upper, alpha)
        else:
            right = average.product_holds([self.of(p, leaks=True) for p in audit.prompts], mean.upper, alpha)
        yield "the average prompt", mean.claim, right
        holds = average.either_holds if fixed else average.product_holds
        right = score.upper >= mean.upper if self.binary else False
        right = right or holds([self.of(p, leaks=False) for p in audit.prompts], score.upper, alpha)
        yield "the average prompt", score.claim, right


CHECKS: dict[str, Callable[[Claims], Said]] = {
    "P(leak) by exact sums": Claims.leaks,
    "E[h], sd and mean + 2 sd, draw by draw": Claims.moments,
    "P(h > x) by exact sums": Claims.bands,
    "averages by their bets": Claims.averages,
}


def certificates(
    found: Certification, facts: Sequence[dict[str, Any]], scores: Sequence[Sequence[float]], binary: bool
) -> Said:
    """The claims of a certification; ``scores`` are those of each prompt's generations, then of its weighted draws."""
    alpha = found.alpha
    for p, fact, known in zip(found.prompts, facts, scores, strict=True):
        some = fact["generations"]
        mass, h = [min(math.exp(g["logprob"]), 1.0) for g in some], known[: len(some)]
        leaks = [leak(x, found.threshold) for x in h]
        if fact["engine"] == "iid":
            k, n = int(sum(g["count"] * x for g, x in zip(some, leaks, strict=True))), sum(g["count"] for g in some)
            drawn = [
                (Draw("-", g["text"], g["count"], (g.get("places") or [0])[0], "stop", 1, None, g.get("places")), x)
                for g, x in zip(some, h, strict=True)
            ]
            few = p.leak.upper >= 1 or tails.at_most_probability(k, n, p.leak.upper) <= Decimal(alpha)
            right = [few or masses.certain(mass, leaks, 0.0, p.leak.upper)]
            sure = masses.certain(mass, h, 0.0, p.mean.upper)
            right += [binary or sure or draws.graded(drawn, (p.mean.upper, *tails.MOST[1:]), alpha)[0]]
        else:
            right = [masses.refutes(mass, leaks, p.leak.upper, alpha)]
            right += [binary or masses.refutes(mass, h, p.mean.upper, alpha)]
        right[1] = right[1] and (not binary or p.mean.upper >= p.leak.upper)
        bounds = [p.leak, p.mean, p.limits, p.verbatim, p.near_verbatim]
        right += [masses.certain(mass, leaks, p.limits.lower, p.limits.upper), p.verbatim.lower <= fact["verbatim"]]
        near = max(math.fsum(fact["near"]), 0.0 if p.prompt.aliases else fact["verbatim"])
        right += [p.near_verbatim.lower <= near]
        if p.still_leaks is not None:
            other = [leak(x, found.threshold) for x in known[len(some) :]]
            weights = [w["weight"] * x for w, x in zip(fact["weighted"], other, strict=True)]
            bounds, counts = [*bounds, p.still_leaks], [w["count"] for w in fact["weighted"]]
            right += [masses.weighted_holds(weights, counts, p.still_leaks.lower, alpha)]
        for bound, said in zip(bounds, right, strict=True):
            yield f"prompt {p.prompt.id!r}", bound.claim, said
    worst = found.worst_prompt
    yield "every prompt", worst.claim, all(p.leak.upper <= worst.upper for p in found.prompts)
