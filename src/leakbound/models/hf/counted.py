"""How often independent draws give each completion, by a walk on the prefix tree that counts draws and numbers none.

At every prefix its n draws are split over the next tokens by Multinomial(n, their law), so that the counts of the
completions are those of independent draws (docs/methods.md, "Counted draws"), and the work follows from the number of
distinct prefixes alone. The split of a prefix has randomness of its own, keyed by its tokens: in which order, in which
batches and in how many sittings prefixes are split changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from leakbound.models.hf.law import NextToken
from leakbound.models.hf.prefixes import Floats, Ints, Prefixes
from leakbound.models.hf.segments import Segment
from leakbound.models.randomness import of_prefix
from leakbound.records import Branch, Shard

FEW = 64
"""So many draws of a range of tokens, or fewer, take a uniform number each; more are split in two, range by range."""

Name = tuple[int, tuple[int, ...]]
"""A prefix: its prompt's place and its new tokens."""


def split(steps: Floats, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Multinomial counts of ``n`` draws: the tokens that were drawn, ascending, and how often.

    ``steps``: running sums of the tokens' weights behind a leading 0, ascending, (tokens + 1,). A range of tokens is
    halved, its draws by Binomial(its draws, weight of the left half / its weight), until one token or at most FEW draws
    are left; those pick their tokens by inverse CDF. Tokens of weight 0 are never drawn. Each draw's law is that of the
    weights but for the rounding of the sums: 2^-53 of the whole weight for each limit between tokens.
    """
    low, high = np.zeros(1, dtype=np.int64), np.full(1, len(steps) - 1, dtype=np.int64)
    count = np.full(1, n, dtype=np.int64)
    while (many := (count > FEW) & (high - low > 1)).any():
        a, b, draws = low[many], high[many], count[many]
        middle = (a + b) // 2
        left = rng.binomial(draws, (steps[middle] - steps[a]) / (steps[b] - steps[a]))
        low = np.concatenate([low[~many], a, middle])
        high = np.concatenate([high[~many], middle, b])
        count = np.concatenate([count[~many], left, draws - left])
        low, high, count = low[count > 0], high[count > 0], count[count > 0]
    few = high - low > 1
    start, end = (np.repeat(steps[place[few]], count[few]) for place in (low, high))
    at = np.minimum(start + rng.random(len(start)) * (end - start), np.nextafter(end, 0.0))
    picked, times = np.unique(np.searchsorted(steps, at, side="right") - 1, return_counts=True)
    tokens, counts = np.concatenate([low[~few], picked]), np.concatenate([count[~few], times])
    order = np.argsort(tokens)
    return tokens[order], counts[order]


class Branches:
    """The prefixes whose draws have not been split yet, as a tree whose inner prefixes are known to lead to them.

    ``open``: how many draws begin with each, with what is known of it; ``inner``: the next tokens of each prefix on the
    way there, and how many draws lie behind them.
    """

    def __init__(self, shard: Shard, open: Sequence[tuple[int, Branch]]) -> None:
        self.shard = shard
        self.open: dict[Name, Branch] = {(place, branch.tokens): branch for place, branch in open}
        self.inner: dict[Name, dict[int, int]] = {}
        for (place, tokens), branch in self.open.items():
            for depth, token in enumerate(tokens):
                behind = self.inner.setdefault((place, tokens[:depth]), {})
                behind[token] = behind.get(token, 0) + branch.count

    def begin(self, root: Segment) -> Segment:
        """Prompts with the draws that are to be split."""
        sizes = dict.fromkeys(root.prefixes.prompt.tolist(), 0)
        for (place, _), branch in self.open.items():
            if place in sizes:
                sizes[place] += branch.count
        number = np.array(list(sizes.values()), dtype=np.int64)
        return Segment(replace(root.prefixes, sizes=number, draws=None))

    def grow(self, prefixes: Prefixes, law: NextToken) -> tuple[Prefixes, Ints]:
        """The next tokens of every prefix with their draws, and their parents' rows."""
        cdf = (law.cdf if law.cdf.device.type == "cpu" else law.probs.cpu().double().cumsum(-1)).numpy()
        found: list[tuple[Ints, Ints]] = []
        known: list[Branch | None] = []
        for row in range(len(prefixes)):
            name = int(prefixes.prompt[row]), tuple(prefixes.new_tokens(row).tolist())
            if behind := self.inner.get(name):
                found.append((np.array([*behind]), np.array([*behind.values()])))
                known += [self.open.get((name[0], (*name[1], token))) for token in behind]
                continue
            self.open.pop(name, None)
            shard = self.shard
            rng = of_prefix(shard.seed, shard.prompts[name[0]].id, shard.first, name[1])
            found.append(split(np.concatenate([[0.0], cdf[row]]), int(prefixes.sizes[row]), rng))
            known += [None] * len(found[-1][0])
        parents = np.repeat(np.arange(len(found)), [len(tokens) for tokens, _ in found])
        tokens, sizes = (np.concatenate(some) for some in zip(*found, strict=True))
        rows, places = (torch.from_numpy(some).to(law.probs.device) for some in (parents, tokens))
        logps = law.logprob(rows, places).cpu().numpy()
        children = prefixes.children(parents, tokens, logps, np.zeros(len(parents)), sizes, None)
        for i, branch in enumerate(known):
            if branch is not None:  # as it was when it was first reached: another batch rounds otherwise
                children.logprob[i], children.certainty[i] = branch.logprob, branch.certainty
        return children, parents

    def left(self, dropped: Sequence[Segment]) -> list[tuple[int, Branch]]:
        """What is open after a walk that ``dropped`` some prefixes, by prompt and tokens."""
        for segment in dropped:
            p = segment.prefixes
            for row in range(len(p)):
                name = int(p.prompt[row]), tuple(p.new_tokens(row).tolist())
                if name not in self.inner and name not in self.open:
                    numbers = int(p.sizes[row]), float(p.logprob[row]), float(p.certainty[row])
                    self.open[name] = Branch(self.shard.prompts[name[0]].id, name[1], *numbers)
        return [(name[0], branch) for name, branch in sorted(self.open.items())]
