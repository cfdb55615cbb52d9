"""Draws of which only counts are known: kept piece by piece, and put into a table when all are there."""

from collections.abc import Sequence
from dataclasses import replace

from leakbound.models.base import Counting
from leakbound.records import Draw, Prompt
from leakbound.runs.layout import Part
from leakbound.runs.progress import Progress
from leakbound.runs.store import Run


def count_part(run: Run, part: Part, sampler: Counting, shown: Progress) -> None:
    """Draw one part of which only counts are known: draws that finished, and where the others are, piece by piece."""
    known, open = run.pieces.draws(part), run.branches(part)
    shown.skip(sum(draw.count for draw in known))
    while open:
        piece, open = sampler.count(run.shard(part), run.params, open)
        known += piece
        if open:
            run.pieces.write(part, piece, open)
        else:
            run.write_draws(part, in_table(run.prompts[part.start : part.stop], known, part.first))
        shown.advance(sum(draw.count for draw in piece))


def in_table(prompts: Sequence[Prompt], counted: Sequence[Draw], first: int) -> list[Draw]:
    """Counted draws by prompt, the most frequent first: an order that says nothing of when they were made.

    ``first`` of a row is a number of its own, that of the draws in the rows above.
    """
    order = {p.id: i for i, p in enumerate(prompts)}
    found, number = list[Draw](), dict.fromkeys(order, first)

    def key(draw: Draw) -> tuple[object, ...]:
        rest = draw.text, draw.finish_reason, draw.num_tokens, -(draw.logprob or 0.0)
        return order[draw.prompt_id], -draw.count, *rest

    for draw in sorted(counted, key=key):
        found.append(replace(draw, first=number[draw.prompt_id]))
        number[draw.prompt_id] += draw.count
    return found
