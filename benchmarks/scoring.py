"""Speed of ROUGE-L scoring: leakbound against the PyPI package rouge_score, side by side in one run.

    python benchmarks/scoring.py [number of completions]

Two cases. "As in an audit": an unlearned model repeats itself, so most draws are duplicates; equal completions are
scored once, as the store does. "All distinct": every completion differs, the worst case for us. rouge_score is timed
on a random subset of the same completions and scaled up, because all of them would take it minutes. Both sides
must give equal values on that subset.
"""

from __future__ import annotations

import random
import sys
import time

from rouge_score.rouge_scorer import RougeScorer

from leakbound.scoring import lexical

NUM = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
SUBSET = 2_000
STEMS = (
    "travel",
    "organ",
    "nation",
    "relate",
    "connect",
    "general",
    "operate",
    "hope",
    "control",
    "walk",
    "play",
    "rain",
)
ENDS = ("ing", "ed", "s", "er", "ers", "ation", "ations", "al", "ally", "ional", "ness", "fully", "ism", "ity", "ive")
TARGET_WORDS = 12


def completion(rng: random.Random, target: str) -> str:
    words = [
        rng.choice(STEMS) + rng.choice(ENDS) if rng.random() < 0.5 else f"w{rng.randrange(5000)}" for _ in range(24)
    ]
    words += rng.sample(target.split(), rng.randrange(TARGET_WORDS))
    rng.shuffle(words)
    return " ".join(words).capitalize() + "."


def audit_like(rng: random.Random, targets: list[str]) -> list[tuple[str, str]]:
    """1,000 draws per prompt from 30 frequent answers (Zipf) and a tail of new ones (5%)."""
    pairs = []
    for target in targets:
        common = [completion(rng, target) for _ in range(30)]
        picks = rng.choices(common, weights=[1 / rank for rank in range(1, 31)], k=1_000)
        pairs += [(completion(rng, target) if rng.random() < 0.05 else pick, target) for pick in picks]
    return pairs


def forget_everything() -> None:
    for cached in (lexical.rouge_tokens, lexical.stem, lexical._alphabet):
        cached.cache_clear()


def measure(name: str, pairs: list[tuple[str, str]]) -> None:
    subset = random.Random(1).sample(pairs, min(SUBSET, len(pairs)))
    package = RougeScorer(["rougeL"], use_stemmer=True)
    start = time.perf_counter()
    theirs = [package.score(target, text)["rougeL"].recall for text, target in subset]
    their_time = (time.perf_counter() - start) * len(pairs) / len(subset)

    lexical.stem("warmup")  # imports nltk, as the package did on its own import
    forget_everything()
    start = time.perf_counter()
    scores = {pair: lexical.rouge_l(*pair) for pair in set(pairs)}
    ours = [scores[pair] for pair in pairs]
    our_time = time.perf_counter() - start
    forget_everything()
    start = time.perf_counter()
    for text, target in scores:
        lexical.rouge_l(text, target)
    no_dedup = (time.perf_counter() - start) * len(pairs) / len(scores)

    assert [scores[pair] for pair in subset] == theirs, "the values differ"
    print(f"{name}: {len(ours):,} completions, {len(scores):,} distinct")
    print(f"  rouge_score  {their_time:8.1f} s   (timed on {len(subset):,}, scaled up)")
    print(f"  leakbound    {our_time:8.2f} s   {their_time / our_time:6.0f}x faster")
    print(f"  leakbound, scaled up from the distinct ones alone: {no_dedup:.2f} s, {their_time / no_dedup:.0f}x faster")


def main() -> None:
    rng = random.Random(0)
    targets = [" ".join(f"w{rng.randrange(5000)}" for _ in range(TARGET_WORDS)) for _ in range(max(NUM // 1_000, 1))]
    measure("as in an audit", audit_like(rng, targets))
    distinct = [(f"{completion(rng, target)} {i}", target) for i, target in enumerate(targets * 1_000)]
    measure("all distinct", distinct)


if __name__ == "__main__":
    main()
