"""The page of the study passages, and its pictures, from its results.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from common import ROOT
from showing import COLOURS, MARKERS, canvas, down, said, save, table, up

from leakbound.bounds import draws_to_extract, extraction_probability

PICTURES = ROOT / "docs" / "results"
ALPHA = 0.01
OWN = "control-"
LAWS: dict[str, dict[str, Any]] = {
    "temperature 1": {},
    "temperature .7": {"temperature": 0.7},
    "temperature .5": {"temperature": 0.5},
    "top-k 40": {"top_k": 40},
    "top-p .9": {"top_p": 0.9},
}
DRAWS = (1, 10, 100, 1000, 10_000, 1_000_000)
CHANCES = (0.1, 0.5, 0.99)
CLAIMED = (100, 10_000)
"""The claim is judged at so many draws, and probability .5: far fewer than would find a control."""
States = list[tuple[str, list[int]]]


def reached(logps: Sequence[float | None], n: int, p: float) -> int:
    """How many of the passages are (n, p)-discoverable."""
    return sum(x is not None and extraction_probability(x, n) >= p for x in logps)


def page(found: dict[str, Any]) -> str:
    """What was found, as Markdown, and its pictures."""
    passages = found["about"]["passages"]
    known = [i for i, one in enumerate(passages) if not one["id"].startswith(OWN)]
    own = [i for i in range(len(passages)) if i not in known]
    parts = [
        f"{len(known)} passages of {min(passages[i]['tokens'] for i in known)} to "
        f"{max(passages[i]['tokens'] for i in known)} tokens and {len(own)} controls; "
        f"{found['about']['draws']} draws of each. Probabilities of the very tokens are exact. Limits from draws hold "
        f"for all {len(passages)} texts at once with confidence {1 - ALPHA:g}.",
        "## How many can be extracted",
        counts(found, known, own),
        extraction_picture(found, known),
        "## Passage by passage",
        probability_picture(found, known, own),
        each(found, known, own),
        checked(found),
        "## The claim",
        claim(found, known, own),
    ]
    return "\n\n".join(parts)


def counts(found: dict[str, Any], known: Sequence[int], own: Sequence[int]) -> str:
    """(n, p)-discoverable passages by law, beside greedy decoding."""
    once, passages = found["once"], found["about"]["passages"]

    def greedy(some: Sequence[int]) -> str:
        verbatim = sum(once[i]["edits"] == 0 for i in some)
        near = sum(once[i]["edits"] <= passages[i]["near"] for i in some)
        return f"{verbatim} of {len(some)} verbatim, {near} near"

    head = ["decoding", *(f"n = {n:,}, p = {p:g}" for p in CHANCES for n in DRAWS[1:5])]
    rows = []
    for name, logps in found["exact"].items():
        mine = [logps[i] for i in known]
        rows.append([name, *(reached(mine, n, p) for p in CHANCES for n in DRAWS[1:5])])
    controls = [logps[i] for logps in found["exact"].values() for i in own]
    best = max((x for x in controls if x is not None), default=-math.inf)
    return (
        f"Asked once (greedily), the model gives {greedy(known)}; of the controls {greedy(own)}. So many of the "
        f"{len(known)} passages come verbatim in at least one of n draws with probability p or more:\n\n"
        f"{table(head, rows)}\n\nThe likeliest control under any of these laws has probability e^{best:.1f}."
    )


def extraction_picture(found: dict[str, Any], known: Sequence[int]) -> str:
    """How many passages are extracted with probability one half, by the number of draws."""
    figure, (ax,) = canvas(1, 7, 3.2)
    once = sum(found["once"][i]["edits"] == 0 for i in known)
    for k, (name, logps) in enumerate(found["exact"].items()):
        needed = sorted(draws_to_extract(logps[i], 0.5) for i in known if logps[i] is not None)
        needed = [n for n in needed if n <= DRAWS[-1]]
        ax.step([1, *needed, DRAWS[-1]], [0, *range(1, len(needed) + 1), len(needed)], where="post", lw=1.2,
                color=COLOURS[k], label=name)  # fmt: skip
    ax.axhline(once, color="#1b1e23", lw=1, ls="--", label="asked once, greedily")
    ax.set(xscale="log", xlabel="draws n", ylabel="passages given with p = .5 or more", ylim=(0, len(known)))
    ax.legend(fontsize=8, frameon=False)
    save(figure, PICTURES / "passages_extraction.svg")
    plain = [found["exact"]["temperature 1"][i] for i in known]
    told = ", ".join(f"{reached(plain, n, 0.5)} with {n:,}" for n in DRAWS[1:])
    alt = f"Greedy decoding gives {once} of {len(known)} passages; at temperature 1 half a chance gives {told} draws"
    return f"![{alt}](passages_extraction.svg)"


def probability_picture(found: dict[str, Any], known: Sequence[int], own: Sequence[int]) -> str:
    """The probability of each passage in one draw, by what greedy decoding says."""
    figure, (ax,) = canvas(1, 9, 3.2)
    logps, passages = found["exact"]["temperature 1"], found["about"]["passages"]
    order = sorted(range(len(passages)), key=lambda i: logps[i] if logps[i] is not None else -math.inf)
    place = {i: x for x, i in enumerate(order)}
    verbatim = [i for i in known if found["once"][i]["edits"] == 0]
    near = [i for i in known if 0 < found["once"][i]["edits"] <= passages[i]["near"]]
    groups: States = [
        ("greedy: verbatim", verbatim), ("greedy: near", near),
        ("greedy: something else", [i for i in known if i not in {*verbatim, *near}]), ("control", list(own)),
    ]  # fmt: skip
    for k, (label, some) in enumerate(groups):
        drawn = [i for i in some if logps[i] is not None]
        ax.plot([place[i] for i in drawn], [logps[i] / math.log(10) for i in drawn], MARKERS[k], ms=4,
                color=COLOURS[k], label=label)  # fmt: skip
    ax.axhline(math.log10(1 - 0.5 ** (1 / CLAIMED[-1])), color="#626a75", lw=0.6, ls=":")
    ax.set(ylabel="log10 P(begins with it)", xticks=[])
    ax.legend(fontsize=8, frameon=False)
    save(figure, PICTURES / "passages_probability.svg")
    line = sum(reached([logps[i]], CLAIMED[-1], 0.5) for i in groups[2][1])
    alt = (
        f"Exact probability of each passage in one draw; above the dotted line half a chance in {CLAIMED[-1]:,} draws: "
        f"there are {line} passages that greedy decoding does not give, and no control"
        if not any(reached([logps[i]], CLAIMED[-1], 0.5) for i in own)
        else f"Exact probability of each passage in one draw; {line} that greedy decoding does not give are likely"
    )
    return f"![{alt}](passages_probability.svg)"


def each(found: dict[str, Any], known: Sequence[int], own: Sequence[int]) -> str:
    """One row for each passage."""
    passages, rows = found["about"]["passages"], []
    logps = found["exact"]["temperature 1"]
    for i in sorted((*known, *own), key=lambda i: -(logps[i] if logps[i] is not None else -math.inf)):
        one, once, drawn = passages[i], found["once"][i], found["certified"][i]
        kind = "verbatim" if once["edits"] == 0 else "near" if once["edits"] <= one["near"] else said(once["text"], 60)
        needed = draws_to_extract(logps[i], 0.5) if logps[i] is not None else math.inf
        _, low, high = drawn["near jointly"]
        rows.append([
            one["source"], one["tokens"], kind, "never" if logps[i] is None else f"{math.exp(logps[i]):.2e}",
            f"{needed:,}" if needed < 1e9 else f"10^{math.log10(needed):.0f}", f"{drawn['near at least']:.1e}",
            f"[{down(low)}, {up(high)}]",
        ])  # fmt: skip
    head = ["passage", "tokens", "asked once", "P(begins with it), exact", "draws for p = .5",
            "P(begins near it), at least, certain", "P(begins near it), from draws"]  # fmt: skip
    return table(head, rows)


def checked(found: dict[str, Any]) -> str:
    """Whether the draws agree with the exact probabilities."""
    pairs = list(zip(found["exact"]["temperature 1"], found["certified"], strict=True))
    inside = sum(
        row["verbatim jointly"][1] <= (0.0 if x is None else math.exp(x)) <= row["verbatim jointly"][2]
        for x, row in pairs
    )
    above = sum(row["near jointly"][2] >= row["near at least"] for _, row in pairs)
    return (
        f"The exact probability lies within the limits that the draws give for {inside} of {len(pairs)} texts, and the "
        f"beam's lower limit below the draws' upper limit for {above}."
    )


def claim(found: dict[str, Any], known: Sequence[int], own: Sequence[int]) -> str:
    """The one sentence."""
    logps, once, passages = found["exact"]["temperature 1"], found["once"], found["about"]["passages"]
    hidden = [i for i in known if once[i]["edits"] > 0]
    counted = {n: reached([logps[i] for i in hidden], n, 0.5) for n in CLAIMED}
    controls = reached([logps[i] for i in own], CLAIMED[-1], 0.5)
    far = [i for i in known if once[i]["edits"] > passages[i]["near"]]
    least, rows = 1 - 0.5 ** (1 / CLAIMED[0]), found["certified"]
    low = sum(max(rows[i]["near at least"], rows[i]["near jointly"][1]) >= least for i in far)
    high = sum(rows[i]["near jointly"][2] >= least for i in far)
    if counted[CLAIMED[-1]]:
        verdict = "holds here" if not controls else "cannot be told here, for controls are as likely,"
    else:
        verdict = "cannot be told here" if high else "does not hold here"
    told = " and ".join(f"{k} in {n:,} draws" for n, k in counted.items())
    return (
        f"The claim that greedy extraction underestimates what is memorised {verdict}: of the {len(known)} passages "
        f"greedy decoding gives {len(known) - len(hidden)} verbatim, and of the other {len(hidden)} come verbatim at "
        f"temperature 1, with probability .5 or more, {told} (exact; of the {len(own)} controls {controls}); of the "
        f"{len(far)} that it does not give even nearly, {low} to {high} come near-verbatim in {CLAIMED[0]:,} draws "
        f"with probability .5 or more (confidence {1 - ALPHA:g})."
    )
