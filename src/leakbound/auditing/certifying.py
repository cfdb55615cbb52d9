"""White-box certificates: what a model's own probabilities prove about its leaks, prompt by prompt."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from leakbound.auditing.drawing import Prompts, Statement, as_recorded, open_scorable, versions_of
from leakbound.auditing.engines import SEARCHED, choose_engine
from leakbound.auditing.scoring import named_scorer
from leakbound.bounds import Bound, mean_bound, proportion_bound, worst_prompt_bound
from leakbound.bounds.certificates import exact_limits, importance_lower_bound, without_replacement_bound
from leakbound.bounds.engines.order import in_order
from leakbound.bounds.gate import reaches
from leakbound.bounds.result import event
from leakbound.errors import InputError, ModelError
from leakbound.models.away import crew_of, through
from leakbound.models.base import Generation, Sampler, WhiteBox, check_asked, prefix_free
from leakbound.models.opening import Loading, open_model
from leakbound.models.randomness import uniforms
from leakbound.records import Prompt, SamplingParams, Shard, check_choice, check_count, prompts_checksum
from leakbound.results.certificate import Certification, PromptCertificate, SeenCompletion
from leakbound.runs.files import kept
from leakbound.runs.layout import NUM_PILOT, PROMPTS_PER_FACTS
from leakbound.runs.progress import Progress, keeping
from leakbound.runs.store import Run
from leakbound.scoring import get_scorer, is_binary, score_completion
from leakbound.workers import Do, spread

PART = ".part"
"""Ends the name of a file of the run folder that is not complete."""
NEAR = 0.1
"""Near-verbatim: at most this share of the target's tokens is edited; of fewer than ten none, or any text were near."""
OWN_SHARE = 0.5
"""Importance sampling: this share of the draws comes from the model itself, the rest from the proposal."""
ROUNDING = 1e-3
"""Importance weights are made smaller by this share: float32 passes of other batches differ by less."""
NUM_WORST = 5


def certify(
    model: Any,
    prompts: Prompts,
    *,
    scorer: str = "rouge_l",
    threshold: float = 0.5,
    num_generations: int = 100,
    alpha: float = 0.01,
    params: SamplingParams | None = None,
    seed: int = 0,
    engine: str = "auto",
    proposal: Any = None,
    tokenizer: Any = None,
    template: str = "auto",
    loading: Loading | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Certification:
    """What can be proven about the leaks of a model whose probabilities we see.

    For each prompt, ``num_generations`` distinct completions without replacement, or i.i.d. draws where the prompt's
    entropy is so high that this proves more (``engine="auto"``); upper bounds on P(h >= threshold) and E[h] at
    ``alpha`` each; certain limits from the seen mass; the exact probability that a completion begins with the target
    or an alias; a certain lower bound for near-verbatim beginnings. With ``proposal``, a model that knows the secrets
    and has the same tokens (the one before unlearning), also a lower bound for leaks too rare to be drawn. With ``out``
    everything stays in that folder, and an interrupted call goes on there. Proofs in docs/certificates.md.

    ``model``: a folder, a hub id, a model of transformers (with ``tokenizer``), or any WhiteBox. Raises InputError for
    what cannot be certified.
    """
    statement, params = Statement(scorer, threshold, alpha), params or SamplingParams()
    check_count("num_generations", num_generations, least=1)
    check_count("seed", seed, least=0)
    check_choice("engine", engine, ("auto", "without-replacement", "iid"))
    if params.greedy:
        raise InputError("temperature is 0: greedy decoding has one completion; give a temperature > 0")
    questions = open_scorable(prompts, statement)
    loading = loading or Loading()
    if proposal is not None:  # a worker holds one model
        loading.check_here("certify with a proposal")
    template = template if out is None else as_recorded(out, template)
    box = _open(model, "model", tokenizer, template, loading)
    other = None
    if proposal is not None:
        named, ready = isinstance(proposal, str | Path), isinstance(proposal, Sampler)
        theirs = replace(loading, revision=None) if named else Loading()
        own = None if named or ready else tokenizer
        other = _open(proposal, "proposal", own, "auto" if ready else template, theirs)
    check_asked(box, questions, params)
    if other is not None:
        _check_pair(box, other, questions)
    info = {
        "kind": "certificate",
        "model": box.describe(),
        "proposal": None if other is None else other.describe(),
        "prompts": {"count": len(questions), "checksum": prompts_checksum(questions)},
        "params": params.to_json(),
        "num_samples": num_generations,
        "engine": engine,
        "seed": seed,
        "statement": asdict(statement),
        "versions": versions_of(box),
    }
    with kept(out) as folder:
        run = Run.start(folder, info, questions)
        groups = [questions[start : start + PROMPTS_PER_FACTS] for start in range(0, len(questions), PROMPTS_PER_FACTS)]
        files = {run.path / "facts" / f"{i:05d}.json": some for i, some in enumerate(groups)}
        missing = [file for file in files if not file.exists()]
        total = sum(len(files[file]) for file in missing)
        together = max(1, SEARCHED // (num_generations * params.max_tokens))

        def of_file(do: Do, file: Path) -> Iterator[list[dict[str, Any]]]:
            """The facts of a file so far: those that are kept, then more and more."""
            facts = run.read_facts(f"{file.stem}{PART}") if _part(file).exists() else []
            yield facts
            while len(facts) < len(files[file]):
                some = files[file][len(facts) : len(facts) + together]
                more = _collect(through(box, do), other, some, num_generations, params, seed, engine, alpha)
                yield (facts := [*facts, *more])

        shown = Progress(f"certifying {run.path.name}", total, "prompts", show=progress and total > 0)
        with (
            keeping(lambda: f"{_known(files)} of {len(questions)} prompts are kept in {run.path}"),
            shown,
            spread(crew_of(box), missing, of_file, lambda file: f"facts/{file.stem}") as found,
        ):
            done: dict[Path, int] = {}
            for file, facts in found:
                if file not in done:
                    done[file] = shown.skip(len(facts))
                elif len(facts) > done[file]:
                    shown.advance(len(facts) - done[file])
                    done[file] = len(facts)
                    whole = len(facts) == len(files[file])
                    run.write_facts(file.stem if whole else f"{file.stem}{PART}", facts)
                    if whole:
                        _part(file).unlink(missing_ok=True)
        result = concluded(run)
        result.save(run.path / "certificate.json")
    return result


def concluded(run: Run, scorer: str | None = None) -> Certification:
    """What the facts in the folder of a certification prove; ``scorer`` as in :func:`named_scorer`."""
    statement = Statement(**{**run.info["statement"], "scorer": named_scorer(run, scorer)})
    names = [f"{i:05d}" for i in range(math.ceil(len(run.prompts) / PROMPTS_PER_FACTS))]
    facts = [fact for name in names for fact in run.read_facts(name)]
    certificates = tuple(_judge(p, fact, statement) for p, fact in zip(run.prompts, facts, strict=True))
    alike = [replace(c.leak, method="certificates") for c in certificates]
    worst = replace(worst_prompt_bound(alike), unit="generations")
    return Certification(run.info, statement.scorer, statement.threshold, statement.alpha, certificates, worst)


def _part(file: Path) -> Path:
    """Where the facts of the first prompts of a file are kept until it is complete."""
    return file.with_name(f"{file.stem}{PART}.json")


def _known(files: Mapping[Path, Sequence[Prompt]]) -> int:
    """How many prompts have their facts on the disk."""
    whole = sum(len(some) for file, some in files.items() if file.exists())
    return whole + sum(len(json.loads(_part(file).read_bytes())["facts"]) for file in files if _part(file).exists())


def _open(model: Any, name: str, tokenizer: Any, template: str, loading: Loading) -> WhiteBox:
    opened = open_model(model, tokenizer=tokenizer, template=template, loading=loading)
    if not isinstance(opened, WhiteBox):
        raise InputError(
            f"{name} is a {type(opened).__name__}, which does not show its probabilities: give a folder or a model of "
            "transformers, or audit it instead"
        )
    return opened


def _check_pair(box: WhiteBox, other: WhiteBox, prompts: Sequence[Prompt]) -> None:
    """A proposal must end its completions where the model does, spell them alike, and both must compute exactly."""
    mine, theirs = box.describe(), other.describe()
    if mine.get("end_tokens") != theirs.get("end_tokens") or any(
        box.target_tokens(p, p.target) != other.target_tokens(p, p.target) for p in prompts
    ):
        raise InputError("proposal has other tokens than the model: give a model with the same tokenizer")
    for name, about in (("model", mine), ("proposal", theirs)):
        if about.get("dtype", "float32") not in ("float32", "float64"):
            raise ModelError(
                f"{name} computes in {about['dtype']}: importance weights need float32; load it with dtype='float32'"
            )


def _collect(
    box: WhiteBox,
    other: WhiteBox | None,
    prompts: Sequence[Prompt],
    n: int,
    params: SamplingParams,
    seed: int,
    engine: str,
    alpha: float,
) -> list[dict[str, Any]]:
    """Everything that needs a model, for some prompts: plain values only."""
    pilots = box.generations(Shard(tuple(prompts), -NUM_PILOT, NUM_PILOT, seed), params)  # draws -32 to -1
    facts: list[dict[str, Any]] = []
    for prompt, pilot in zip(prompts, pilots, strict=True):
        logps = np.repeat([g.logprob for g in pilot], [g.count for g in pilot])
        chosen = choose_engine(np.exp(logps).tolist(), n, alpha) if engine == "auto" else engine
        facts.append({"id": prompt.id, "entropy": max(0.0, -float(logps.mean())), "engine": chosen})
    for name in ("without-replacement", "iid"):
        mine = [i for i, fact in enumerate(facts) if fact["engine"] == name]
        some = tuple(prompts[i] for i in mine)
        if some and name == "iid":
            found = box.generations(Shard(some, 0, n, seed), params)
        else:
            found = box.distinct(some, n, params, seed) if some else []
        for i, generations in zip(mine, found, strict=True):
            facts[i]["generations"] = [asdict(g) for g in generations]
    _add_targets(box, prompts, params, facts)
    if other is not None:
        for prompt, fact in zip(prompts, facts, strict=True):
            fact["weighted"] = _weigh(box, other, prompt, n, params, seed)
    return facts


def _add_targets(box: WhiteBox, prompts: Sequence[Prompt], params: SamplingParams, facts: list[dict[str, Any]]) -> None:
    """The exact probabilities of the targets as beginnings, and of beginnings close to them."""
    pairs = [
        (i, tokens)
        for i, prompt in enumerate(prompts)
        for tokens in prefix_free([box.target_tokens(prompt, text) for text in (prompt.target, *prompt.aliases)])
    ]
    logps = box.logprobs([prompts[i] for i, _ in pairs], [tokens for _, tokens in pairs], params)
    targets = [box.target_tokens(p, p.target) for p in prompts]
    edits = [math.floor(NEAR * len(t)) for t in targets]
    near = box.near_verbatim(prompts, targets, edits, params)
    for fact, most, close in zip(facts, edits, near, strict=True):
        fact["verbatim"] = 0.0
        fact["edits"] = most
        fact["near"] = [math.exp(g.logprob) for g in close]
    for (i, _), logp in zip(pairs, logps, strict=True):
        facts[i]["verbatim"] += math.exp(logp)


def _weigh(
    box: WhiteBox, other: WhiteBox, prompt: Prompt, n: int, params: SamplingParams, seed: int
) -> list[dict[str, Any]]:
    """n draws of the mixture of model and proposal, each with P/q rounded down; which one draws is decided by coins."""
    own = int((uniforms(seed, prompt.id, -1, 0, n) < OWN_SHARE).sum())
    drawn: list[tuple[Generation, float, float]] = []
    for source, count, first, against in ((box, own, n, other), (other, n - own, 2 * n, box)):
        if not count:
            continue
        some = source.generations(Shard((prompt,), first, count, seed), params)[0]
        logps = against.logprobs([prompt] * len(some), [g.tokens for g in some], params)
        for g, logp in zip(some, logps.tolist(), strict=True):
            drawn.append((g, g.logprob, logp) if source is box else (g, logp, g.logprob))
    out = []
    for g, p, q in drawn:
        log_mixture = np.logaddexp(math.log(OWN_SHARE) + p, math.log(1 - OWN_SHARE) + q)
        out.append({"text": g.text, "count": g.count, "weight": math.exp(p - log_mixture) * (1 - ROUNDING)})
    return out


def _judge(prompt: Prompt, fact: dict[str, Any], statement: Statement) -> PromptCertificate:
    """Score the completions of one prompt and bound what they prove."""
    function = get_scorer(statement.scorer)
    alpha, estimand = statement.alpha, event(statement.threshold)
    known: dict[str, float] = {}

    def score(text: str) -> float:
        if text not in known:
            known[text] = score_completion(function, text, prompt)
        return known[text]

    def certain(what: str, value: float, n: int, method: str, unit: str) -> Bound:
        return Bound(what, value, value * (1 - 1e-9), 1.0, alpha, "lower", n, method, unit=unit)

    generations = fact["generations"]
    masses = np.minimum(np.exp([g["logprob"] for g in generations]), 1.0)
    counts = np.array([g["count"] for g in generations])
    scores = np.array([score(g["text"]) for g in generations])
    leaks = reaches(scores, statement.threshold).astype(np.float64)
    limits = exact_limits(masses, leaks, alpha=alpha, estimand=estimand)
    if fact["engine"] == "iid":
        leak = proportion_bound(int(counts @ leaks), int(counts.sum()), alpha=alpha, estimand=estimand)
        places = [g.get("places") for g in generations]
        if None in places:  # a model that only counts
            mean = mean_bound(scores, alpha=alpha, counts=counts)
        else:
            mean = mean_bound(in_order(scores.tolist(), places), alpha=alpha)
    else:
        leak = without_replacement_bound(masses, leaks, alpha=alpha, estimand=estimand)
        mean = without_replacement_bound(masses, scores, alpha=alpha)
    # what is certain costs no alpha
    leak = replace(leak, upper=min(leak.upper, limits.upper))
    mean = replace(mean, upper=min(mean.upper, exact_limits(masses, scores, alpha=alpha).upper))
    if is_binary(function):
        mean = replace(leak, estimand="E[h]")
    verbatim = min(1.0, fact["verbatim"])
    near = min(1.0, max(math.fsum(fact["near"]), 0.0 if prompt.aliases else verbatim))  # an alias is not near
    still = None
    if "weighted" in fact:
        values = [w["weight"] * reaches(score(w["text"]), statement.threshold) for w in fact["weighted"]]
        still = importance_lower_bound(
            values, alpha=alpha, counts=[w["count"] for w in fact["weighted"]], estimand=estimand
        )
    order = sorted(range(len(generations)), key=lambda i: (-scores[i], -masses[i], generations[i]["text"]))
    return PromptCertificate(
        prompt=prompt,
        engine=fact["engine"],
        entropy=fact["entropy"],
        num_generations=int(counts.sum()),
        num_distinct=len(generations),
        seen_mass=min(1.0, float(masses.sum())),
        leak=leak,
        mean=mean,
        limits=limits,
        verbatim=certain(
            f"P(begins with the target{' or an alias' if prompt.aliases else ''})", verbatim, 1,
            "exact by teacher forcing (certain)", "pass",
        ),
        near_verbatim=certain(
            f"P(begins within {fact['edits']} token edits of the target)", near, max(1, len(fact["near"])),
            "constrained beam (certain)", "beginnings",
        ),
        still_leaks=still,
        worst=tuple(
            SeenCompletion(g["text"], float(masses[i]), float(scores[i]), g["finish_reason"])
            for i, g in ((i, generations[i]) for i in order[:NUM_WORST])
        ),
        num_cut=sum(int(n) for n, x, g in zip(counts, leaks, generations, strict=True)
                    if g["finish_reason"] == "length" and not x),
    )  # fmt: skip
