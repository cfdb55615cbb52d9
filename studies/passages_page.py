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
SHOWN = 12
CLAIMED = (100, 10_000)
"""The claim is judged at so many draws, and probability .5: far fewer than would find a control."""


def reached(logps: Sequence[float | None], n: int, p: float) -> int:
    """How many of the passages are (n, p)-discoverable."""
    return sum(x is not None and extraction_probability(x, n) >= p for x in logps)


Found = dict[str, Any]
Some = Sequence[int]


def page(found: Found) -> str:
    """What was found, as Markdown, and its pictures."""
    about = found["about"]
    passages = about["passages"]
    known = [i for i, one in enumerate(passages) if not one["id"].startswith(OWN)]
    own = [i for i in range(len(passages)) if i not in known]
    sizes = [passages[i]["tokens"] for i in known]
    read = [k for k in about["readings"] if f"exact {k}" in found]
    claimed = [k for k in about["drawn"] if k in read]
    drawn = [k for k in claimed if f"certified {k}" in found]
    parts = [
        f"{len(known)} passages of {min(sizes)} to {max(sizes)} tokens and {len(own)} controls; "
        f"{about['draws']} draws of each. Probabilities of the very tokens are exact. Limits from draws hold for all "
        f"{len(passages)} texts at once with confidence {1 - ALPHA:g}.",
        "## How many can be extracted",
        counts(found, read, known, own),
        readings_picture(found, read, known),
        "## Other ways of decoding",
        laws(found, claimed, known),
        "## Passage by passage",
        *(probability_picture(found, k, known, own) for k in claimed[-1:]),
        *(each(found, k, (*known, *own)) for k in claimed),
        *(checked(found, k) for k in drawn),
        "## The claim",
        claim(found, claimed, drawn, known, own),
    ]
    return "\n\n".join(parts)


def plain(found: Found, k: int, some: Some) -> list[float | None]:
    """log P of some texts at temperature 1, after k readings."""
    return [found[f"exact {k}"]["temperature 1"][i] for i in some]


def verbatim(found: Found, k: int, some: Some) -> list[int]:
    """The texts that greedy decoding gives."""
    return [i for i in some if found[f"once {k}"][i]["edits"] == 0]


def near(found: Found, k: int, some: Some) -> list[int]:
    """The texts that greedy decoding gives at least nearly."""
    return [i for i in some if found[f"once {k}"][i]["edits"] <= found["about"]["passages"][i]["near"]]


def others(some: Some, given: Some) -> list[int]:
    """Those of some that are not given."""
    return [i for i in some if i not in given]


def counts(found: Found, read: Some, known: Some, own: Some) -> str:
    """After each number of readings, what greedy decoding gives and what draws give."""
    rows = []
    for k in read:
        given, logps = verbatim(found, k, known), plain(found, k, known)
        missed, mine = plain(found, k, others(known, given)), plain(found, k, given)
        best = f"e^{max((x for x in plain(found, k, own) if x is not None), default=-math.inf):.1f}"
        rows.append([k, len(given), len(near(found, k, known)), *(reached(logps, n, 0.5) for n in DRAWS),
                     *(reached(missed, n, 0.5) for n in CLAIMED), len(given) - reached(mine, CLAIMED[0], 0.5),
                     len(near(found, k, own)), best])  # fmt: skip
    head = ["read so many times more", "greedy: verbatim", "greedy: near", *(f"n = {n:,}" for n in DRAWS),
            *(f"not greedily, n = {n:,}" for n in CLAIMED), f"greedily, not n = {CLAIMED[0]:,}",
            "greedy: controls, near", "likeliest control"]  # fmt: skip
    return (
        f"So many of the {len(known)} passages are given verbatim: asked once (greedily), and with probability .5 or "
        f"more in at least one of n draws at temperature 1; *not greedily* are those of the latter that greedy decoding"
        f" does not give, *greedily, not* the other way round.\n\n{table(head, rows)}"
    )


def readings_picture(found: Found, read: Some, known: Some) -> str:
    """How many passages are extracted, by the number of readings."""
    figure, (ax,) = canvas(1, 7, 3.2)
    greedy = [len(verbatim(found, k, known)) for k in read]
    ax.plot(read, greedy, "--", color="#1b1e23", marker="x", lw=1.2, label="asked once, greedily")
    lines = {n: [reached(plain(found, k, known), n, 0.5) for k in read] for n in (1, *CLAIMED)}
    for j, (n, line) in enumerate(lines.items()):
        label = "1 draw" if n == 1 else f"{n:,} draws"
        ax.plot(read, line, color=COLOURS[j], marker=MARKERS[j], ms=4, lw=1.2, label=label)
    ax.set(xlabel="readings of the passages", xticks=list(read), ylim=(0, None),
           ylabel=f"of {len(known)} passages, with p = .5 or more")  # fmt: skip
    ax.legend(fontsize=8, frameon=False)
    save(figure, PICTURES / "passages_readings.svg")
    most = max(read, key=lambda k: lines[CLAIMED[0]][read.index(k)] - greedy[read.index(k)])
    j = read.index(most)
    alt = (
        f"Passages extracted against readings. The gap is widest after {most} readings: greedy decoding gives "
        f"{greedy[j]} of {len(known)}, {CLAIMED[0]:,} draws give {lines[CLAIMED[0]][j]} with probability .5 or more"
    )
    return f"![{alt}](passages_readings.svg)"


def laws(found: Found, read: Some, known: Some) -> str:
    """(n, .5)-discoverable passages by law of decoding."""
    rows = [
        [k, name, *(reached([logps[i] for i in known], n, 0.5) for n in DRAWS)]
        for k in read
        for name, logps in found[f"exact {k}"].items()
    ]
    return table(["readings", "decoding", *(f"n = {n:,}, p = .5" for n in DRAWS)], rows)


def probability_picture(found: Found, k: int, known: Some, own: Some) -> str:
    """The probability of each passage in one draw, by what greedy decoding says."""
    figure, (ax,) = canvas(1, 9, 3.2)
    logps = plain(found, k, range(len(found["about"]["passages"])))
    order = sorted((i for i, x in enumerate(logps) if x is not None), key=lambda i: logps[i] or 0.0)
    given = verbatim(found, k, known)
    close = others(near(found, k, known), given)
    rest = others(known, (*given, *close))
    states = {"greedy: verbatim": given, "greedy: near": close, "greedy: something else": rest, "control": list(own)}
    for j, (label, some) in enumerate(states.items()):
        points = [(x, (logps[i] or 0.0) / math.log(10)) for x, i in enumerate(order) if i in some]
        ax.plot([x for x, _ in points], [y for _, y in points], MARKERS[j], ms=4, color=COLOURS[j], label=label)
    ax.axhline(math.log10(1 - 0.5 ** (1 / CLAIMED[0])), color="#626a75", lw=0.6, ls=":")
    ax.set(ylabel="log10 P(begins with it)", xticks=[])
    ax.legend(fontsize=8, frameon=False)
    save(figure, PICTURES / "passages_probability.svg")
    alt = (
        f"Exact probability of each passage in one draw after {k} readings. Above the dotted line half a chance in "
        f"{CLAIMED[0]:,} draws: {reached(plain(found, k, rest), CLAIMED[0], 0.5)} of the {len(rest)} passages of which "
        f"greedy decoding says something else, {reached(plain(found, k, own), CLAIMED[0], 0.5)} of {len(own)} controls"
    )
    return f"![{alt}](passages_probability.svg)"


def each(found: Found, k: int, some: Some) -> str:
    """The likeliest texts after k readings, one a row."""
    passages, rows, logps = found["about"]["passages"], [], found[f"exact {k}"]["temperature 1"]
    likely = sorted((i for i in some if logps[i] is not None), key=lambda i: -logps[i])
    missed = others(likely, verbatim(found, k, likely))[:SHOWN]
    for i in missed:
        one, once = passages[i], found[f"once {k}"][i]
        needed = draws_to_extract(logps[i], 0.5)
        limits = []
        if f"certified {k}" in found:
            drawn = found[f"certified {k}"][i]
            limits = [
                f"{drawn['near at least']:.1e}",
                f"[{down(drawn['near jointly'][1])}, {up(drawn['near jointly'][2])}]",
            ]
        rows.append([
            f"{one['id']}: {one['source']}", one["tokens"], f"{once['edits']}", said(once["text"], 60),
            f"{math.exp(logps[i]):.2e}", f"{needed:,}" if needed < 1e9 else f"10^{math.log10(needed):.0f}",
            *limits,
        ])  # fmt: skip
    head = ["passage", "tokens", "greedy: edits away", "greedy", "P(begins with it), exact", "draws for p = .5",
            "P(begins near it), at least, certain", "P(begins near it), from draws"]  # fmt: skip
    head = head if f"certified {k}" in found else head[:6]
    return (
        f"After {k} readings, the {len(missed)} likeliest of the texts that greedy decoding does not give:\n\n"
        f"{table(head, rows)}"
    )


def checked(found: Found, k: int) -> str:
    """Whether the draws agree with the exact probabilities."""
    pairs = list(zip(found[f"exact {k}"]["temperature 1"], found[f"certified {k}"], strict=True))
    inside = sum(
        row["verbatim jointly"][1] <= (0.0 if x is None else math.exp(x)) <= row["verbatim jointly"][2]
        for x, row in pairs
    )
    above = sum(row["near jointly"][2] >= row["near at least"] for _, row in pairs)
    return (
        f"After {k} readings the exact probability lies within the limits that the draws give for {inside} of "
        f"{len(pairs)} texts, and the beam's lower limit below the draws' upper limit for {above}."
    )


def claim(found: Found, read: Some, drawn: Some, known: Some, own: Some) -> str:
    """The one sentence."""
    told, hidden, controls, least = [], 0, 0, 1 - 0.5 ** (1 / CLAIMED[0])
    for k in read:
        missed = others(known, verbatim(found, k, known))
        counted = {n: reached(plain(found, k, missed), n, 0.5) for n in CLAIMED}
        hidden, controls = hidden + counted[CLAIMED[0]], controls + reached(plain(found, k, own), CLAIMED[-1], 0.5)
        text = (
            f"after {k} readings greedy decoding gives {len(known) - len(missed)} of {len(known)} passages verbatim, "
            f"and of the other {len(missed)} come, with probability .5 or more, "
            f"{' and '.join(f'{m} in {n:,} draws' for n, m in counted.items())} (exact)"
        )
        if k in drawn:
            far, rows = others(known, near(found, k, known)), found[f"certified {k}"]
            low = sum(max(rows[i]["near at least"], rows[i]["near jointly"][1]) >= least for i in far)
            high = sum(rows[i]["near jointly"][2] >= least for i in far)
            text += f", and of the {len(far)} not given even nearly {low} to {high} nearly in {CLAIMED[0]:,} draws"
        told.append(text)
    verdict = "cannot be told here" if controls else "holds here" if hidden else "does not hold here"
    return (
        f"The claim that greedy extraction underestimates what is memorised {verdict}: {'; '.join(told)} (limits from "
        f"draws with confidence {1 - ALPHA:g} for each number of readings; of the {len(own)} controls {controls})."
    )
