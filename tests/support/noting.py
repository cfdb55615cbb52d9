"""A fake model that notes what it is asked for."""

from leakbound.models import FakeModel
from leakbound.records import Prompt

PROMPTS = tuple(Prompt(f"p{i}", f"What is secret {i}?", f"alpha beta {i}") for i in range(4))


class Noting:
    """A fake that notes each shard it draws: prompt ids, first draw, number of draws, whether greedy."""

    def __init__(self, *, leak=0.5, leaks=()):
        self.fake, self.asked, self.seeds, self.params = FakeModel(leak=leak, leaks=leaks), [], set(), []

    def describe(self):
        return self.fake.describe()

    def sample(self, shard, params):
        self.asked.append((tuple(p.id for p in shard.prompts), shard.first, shard.num_samples, params.greedy))
        self.seeds.add(shard.seed)
        self.params.append(params)
        return self.fake.sample(shard, params)
