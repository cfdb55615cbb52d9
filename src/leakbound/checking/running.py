"""Check a policy: draw until each claim is settled, and remember verdicts of models that have not changed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leakbound.auditing.drawing import open_prompts, software_versions
from leakbound.auditing.pairing import against_first, leaks_in_order
from leakbound.auditing.steps import audit
from leakbound.bounds import Claim
from leakbound.bounds.claims import Verdict
from leakbound.bounds.result import in_full
from leakbound.checking.policy import Demand, Policy
from leakbound.errors import InputError
from leakbound.models.base import Sampler
from leakbound.models.opening import open_model
from leakbound.reading.prompts import with_system
from leakbound.records import Prompt
from leakbound.results.audit import Audit, PromptAudit
from leakbound.results.check import Asked, Finding, Verdicts
from leakbound.results.verdicts import average_verdict, counted, every_verdict, stages, unless_cut
from leakbound.runs.cache import checksum, read
from leakbound.runs.files import file_sum, loading, on_disk, read_json, write_json
from leakbound.runs.store import Run
from leakbound.scoring import is_built_in, is_pinned
from leakbound.workers import Workers

SHOWN = 5
"""Prompts that are named with a verdict."""
ORDER = {"refuted": 0, "open": 1, "proven": 2, "": 3}
FINDING, ADAPTER = "finding.json", "adapter_config.json"
LAW = ("leakbound", "torch", "transformers")
"""What makes a law of weights and templates; another version may make another one."""


def check(
    policy: Policy,
    out: str | Path,
    *,
    name: str = "policy",
    workers: Workers | None = None,
    progress: bool = True,
    each: Callable[[Finding, bool], None] | None = None,
) -> Verdicts:
    """The verdicts of a policy, each at ``policy.level``; draws, scores and pages of each stay in a folder of ``out``.

    A verdict is read again, and nothing drawn, where model, prompts, claim and the versions of what computes its law
    are those of a folder that is there: a model of a folder or file is known by the checksum of all its bytes. Any
    other, as one behind a server, is drawn from at each check, and so is any by a scorer whose name does not say all
    that it is, as your own function. A check that was interrupted goes on where it stopped, but for those, whose draws
    are made again. ``each`` is called with every verdict as it falls, and whether it was read again. ``workers`` draw,
    in place of those that the policy names.

    :raises InputError: something of the policy cannot be used.
    """
    opened: dict[Any, Sampler] = {}
    findings, folder = [], on_disk(out)  # in a store the verdict of before would not be seen, and its draws go on
    for model, demand in policy.pairs:
        finding, before = _Claimed(policy, model, demand, folder, workers or Workers(), progress, opened).finding()
        findings.append(finding)
        if each is not None:
            each(finding, before)
    return Verdicts(name, policy.alpha, tuple(findings))


def fingerprint(model: str, base: str | None = None) -> str | None:
    """SHA-256 of all files of a model's folder, or of its file; None for a model that is known by its name alone.

    An adapter's is that of its base too: ``base``, or the one that it names.
    """
    place = Path(model).expanduser()
    if not place.exists():
        return None
    whole = hashlib.sha256()
    for file in sorted(_files(place)) if place.is_dir() else [place]:
        whole.update(f"{file.relative_to(place) if place.is_dir() else ''}\0{file_sum(file)}\0".encode())
    if (place / ADAPTER).is_file():
        below = fingerprint(base or str(read(place / ADAPTER).get("base_model_name_or_path")))
        if below is None:
            return None
        whole.update(below.encode())
    return whole.hexdigest()


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files below a folder, also behind links, as a loader finds them; a link to a folder ``above`` adds none."""
    real = folder.resolve()
    for entry in folder.iterdir() if real not in above else ():
        if entry.is_dir():
            yield from _files(entry, (*above, real))
        elif entry.is_file():
            yield entry


@dataclass
class _Claimed:
    """One claim about one model."""

    policy: Policy
    model: str
    demand: Demand
    out: Path
    workers: Workers
    progress: bool
    opened: dict[Any, Sampler]
    """The model that is loaded, for the next claim about it."""

    @property
    def source(self) -> str:
        """Where the model is."""
        return self.policy.models[self.model]

    def finding(self) -> tuple[Finding, bool]:
        """The verdict, and whether it is from before."""
        prompts, demand, weights = self.prompts(), self.demand, fingerprint(self.source, self.demand.how.loading.base)
        before = Audit.load(demand.not_worse_than, "not_worse_than") if demand.not_worse_than else None
        known = weights is not None and is_pinned(demand.how.scorer if before is None else before.scorer)
        inputs = {
            "model": weights or self.source,
            "demand": repr(replace(demand, name="", models=())),
            "before": "" if before is None else checksum(before.to_json()),
            "prompts": [prompt.to_json() for prompt in prompts],
            "level": self.policy.level,
            "versions": {name: version for name, version in software_versions().items() if name in LAW},
        }
        what = checksum(inputs)
        folder = self.out / f"{_plain(self.model)}-{_plain(demand.title)}-{what[:12]}"
        file, where = folder / FINDING, f"{what} finding"  # a verdict that was copied here says nothing of this claim
        if known and file.exists():
            with loading(file, f"remove {folder}, and its claim is checked anew"):
                (there,) = Verdicts.from_json(read_json(file, where, needed=True)[0]).findings
            return replace(there, name=demand.title, model=self.model), True
        if not known and folder.exists():  # ended or killed: what somebody else's model was then says nothing of today
            shutil.rmtree(folder)
        made = self.compared(folder) if demand.not_worse_than else self.drawn(prompts, folder)
        write_json(file, Verdicts(demand.title, self.policy.level, (made,)).to_json(), where)
        return made, False

    def prompts(self) -> tuple[Prompt, ...]:
        """What is asked."""
        if self.demand.not_worse_than:
            return tuple(Run.open(self.demand.not_worse_than).prompts)
        prompts = open_prompts(self.demand.prompts)
        return with_system(prompts, self.demand.system) if self.demand.system else prompts

    def audit(self, prompts: tuple[Prompt, ...], out: Path, level: float, draws: int, until: str | None) -> Audit:
        """An audit with the settings of the claim."""
        how = self.demand.how
        return audit(
            self.sampler(), prompts, scorer=how.scorer, threshold=how.threshold, num_samples=draws, alpha=level,
            params=how.params, seed=how.seed, until=until, out=out, page=self.demand.known is None,
            progress=self.progress,
        )  # fmt: skip

    def sampler(self, template: str = "auto") -> Sampler:
        """The model, loaded once for claims that follow each other; ``template`` where the claim has none."""
        how = self.demand.how
        template = template if how.template == "auto" else how.template
        key = self.source, template, how.loading
        if key not in self.opened:
            self.opened.clear()  # two may not fit
            loading = replace(how.loading, **vars(self.workers)) if self.workers.away else how.loading
            self.opened[key] = open_model(self.source, template=template, loading=loading)
        return self.opened[key]

    def drawn(self, prompts: tuple[Prompt, ...], folder: Path) -> Finding:
        """A claim about the model alone."""
        demand, level, n = self.demand, self.policy.level, len(prompts)
        whose = {"every": f"every one of {n} prompts at once", "each": f"each of {n} prompts alone"}
        if demand.of != "average":
            found = self.audit(prompts, folder, level, demand.num_samples, demand.claim)
            verdict = every_verdict(found.prompts, level)
            claim = Claim.parse(demand.claim, level)
            uppers = {p.prompt.id: (p.leak if claim.quantity == "leak" else p.mean).upper for p in found.prompts}
            said = f"{claim} for {whose[str(demand.of)]}"
            return self.made(found, said, verdict, max(uppers.values()), False, folder, uppers)
        known = demand.known
        limit = Claim.parse(demand.claim, level).limit if known is None else known
        for size, share in stages(demand.num_samples):
            place = folder / f"{size}-draws"
            found = self.audit(prompts, place, share * level, size, None)  # its page holds at whatever stage it stops
            verdict, bound = average_verdict(counted(found), limit, share * level, at_least=known is not None)
            verdict = verdict if known is not None else unless_cut(verdict, found, limit)
            if verdict != "open":
                break
        sign, what = ("<=", "P(leak)") if known is None else (">=", "P(right)")
        said = f"{what} {sign} {in_full(limit)} for the average of {n} prompts"
        return self.made(found, said, verdict, bound, known is not None, place, {})

    def compared(self, folder: Path) -> Finding:
        """The claim that the model leaks no more than that of a run folder, draw by draw."""
        demand, level, before = self.demand, self.policy.level, Run.open(self.demand.not_worse_than)
        then = Audit.load(before.path)
        if not (is_built_in(then.scorer) or then.scorer == demand.how.scorer):
            raise InputError(
                f"not_worse_than is {demand.not_worse_than!r}: its audit names the scorer {then.scorer!r}, which is "
                f"not built in; a folder is data: if you trust that scorer, say so in the claim, scorer: {then.scorer}"
            )
        if not is_built_in(demand.how.scorer) and then.scorer != demand.how.scorer:
            raise InputError(
                f"scorer is {demand.how.scorer!r} beside not_worse_than {demand.not_worse_than!r}, whose own scorer "
                f"{then.scorer!r} is used: leave scorer out, of the defaults too"
            )
        found = audit(
            self.asked_as(before), before.prompts, scorer=then.scorer, threshold=then.threshold, alpha=level,
            num_samples=before.info["num_samples"], params=before.params, seed=before.info["seed"], out=folder,
            progress=self.progress,
        )  # fmt: skip
        leaks = leaks_in_order([before, Run.open(folder)], [then, found])
        if leaks is None:
            raise InputError(
                f"not_worse_than is {demand.not_worse_than!r}, whose draws cannot be paired with those of "
                f"{self.source!r}: give the run of an audit without until, width and engine, of a statement made before"
            )
        (bound,) = against_first(leaks, level)
        least: Verdict = "proven" if bound.upper <= demand.by else "refuted" if bound.lower > demand.by else "open"
        verdict = unless_cut(least, found)
        said = f"P(leak) at most {in_full(demand.by)} above that of {demand.not_worse_than}, for the average prompt"
        return self.made(found, said, verdict, bound.upper, False, folder, {})

    def asked_as(self, before: Run) -> Sampler:
        """The model, asked with the template of an earlier run. InputError where the claim gives another one."""
        then, date = before.info["model"].get("template"), before.info["model"].get("date")
        chat = then is not None and "{text}" not in then  # in whatever words: a tokenizer brings its own
        named = f"chat@{date}" if date else "chat"
        sampler = self.sampler(named if chat else then or "auto")
        now = sampler.describe().get("template")
        if None not in (then, now) and then != now and not (chat and "{text}" not in str(now)):
            raise InputError(
                f"template is {now!r:.80}, and {self.demand.not_worse_than!r} was asked with {then!r:.80}: leave "
                "template out of the claim, or audit the earlier model with this one"
            )
        return sampler

    def made(
        self, found: Audit, said: str, verdict: Any, bound: float, lower: bool, place: Path, uppers: Mapping[str, float]
    ) -> Finding:
        """The record of a verdict."""

        def upper(p: PromptAudit) -> float:
            return uppers.get(p.prompt.id, p.leak.upper)

        worst = sorted(found.prompts, key=lambda p: (ORDER[p.stands], p.cut_share < 1, -upper(p), p.prompt.id))
        if lower:
            worst.sort(key=lambda p: (p.leak_rate, p.prompt.id))
        asked = tuple(Asked(p.prompt.id, p.stands, p.num_leaks, p.num_samples, upper(p)) for p in worst[:SHOWN])
        return Finding(
            name=self.demand.title, model=self.model, claim=said, level=self.policy.level, verdict=verdict, bound=bound,
            lower=lower, num_prompts=len(found.prompts), num_draws=sum(p.num_samples for p in found.prompts),
            cut=found.cut_shares[1] if not lower else 0.0, decoding=found.run["params"], worst=asked,
            run=str(place), scorer=found.scorer, threshold=found.threshold,
            never_ended=found.never_ended if not lower else 0,
        )  # fmt: skip


def _plain(name: str) -> str:
    """A name as part of a folder's."""
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in name)[:40].strip("-.") or "x"
