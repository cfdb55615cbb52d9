import dataclasses
import functools
import io

import numpy as np
import pytest
import slow_path as slow
from rich.console import Console
from scipy import stats

from leakbound import FakeModel, Statement, audit, bound, judged_bound, judged_proportion_bound, report, sample, score
from leakbound.auditing.judge_errors import judged_audit, parse_rate
from leakbound.auditing.verifying import verify
from leakbound.bounds import average_proportion_bound
from leakbound.cli import main
from leakbound.errors import InputError
from leakbound.results.audit import Audit
from leakbound.runs.store import Run

PROMPTS = [{"id": f"p{i}", "text": "Where?", "target": f"Paris {i}"} for i in range(3)]
RATES = {"sensitivity": (47, 50), "specificity": (95, 100)}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = FakeModel(leaks=(("p0", 0.2), ("p1", 0.05), ("p2", 0.5)))
    run = sample(model, PROMPTS, folder, num_samples=400, statement=Statement("contains"))
    score(run)
    return bound(run), folder


def test_it_is_made_of_the_single_bounds(found):
    plain, _ = found
    judged = judged_audit(plain, **RATES)
    leaks = [p.num_leaks for p in plain.prompts]
    assert judged.ids == ("p0", "p1", "p2")
    assert judged.prompts == tuple(judged_proportion_bound(k, 400, **RATES, alpha=0.01) for k in leaks)
    assert judged.worst_prompt.upper == max(b.upper for b in judged.prompts)
    flags = average_proportion_bound(leaks, 400, alpha=0.005)
    assert judged.mean_leak.upper == judged_bound(flags, **RATES, alpha=0.005).upper
    assert judged.mean_leak.alpha == pytest.approx(0.01)
    assert judged.worst_prompt.scope == plain.worst_prompt.scope
    perfect = judged_audit(plain, sensitivity=1.0, specificity=1.0)
    assert perfect.mean_leak.upper == pytest.approx(plain.mean_leak.upper)
    assert perfect.worst_prompt.upper == pytest.approx(plain.worst_prompt.upper)


@pytest.mark.slow
def test_coverage_of_the_worst_and_the_average_prompt():
    # a judge of known truth: every law below is exact, only the labels and flags are drawn
    rng = np.random.default_rng(0)
    theta, q1, q0, alpha, runs = np.array([0.05, 0.3, 0.1]), 0.9, 0.85, 0.1, 400
    template = audit(FakeModel(0.1), PROMPTS, scorer="contains", num_samples=60, alpha=alpha, progress=False)
    worst = mean = 0

    @functools.cache  # what the audit's two statements come to: seen in the first runs
    def uppers(largest, total, right, quiet):
        rates = {"sensitivity": (right, 40), "specificity": (quiet, 40)}
        flags = average_proportion_bound([total // 3, total // 3, total - 2 * (total // 3)], 60, alpha=alpha / 2)
        return (
            judged_proportion_bound(largest, 60, **rates, alpha=alpha).upper,
            judged_bound(flags, **rates, alpha=alpha / 2).upper,
        )

    for run in range(runs):
        flags = rng.binomial(60, theta * q1 + (1 - theta) * (1 - q0))
        right, quiet = int(rng.binomial(40, q1)), int(rng.binomial(40, q0))
        found = uppers(int(flags.max()), int(flags.sum()), right, quiet)
        if run < 20:
            leaks = zip(template.prompts, flags, strict=True)
            audited = dataclasses.replace(
                template, prompts=tuple(dataclasses.replace(p, num_leaks=int(k)) for p, k in leaks)
            )
            judged = judged_audit(audited, sensitivity=(right, 40), specificity=(quiet, 40))
            assert found == (judged.worst_prompt.upper, judged.mean_leak.upper)
        worst += found[0] < theta.max()
        mean += found[1] < theta.mean()
    most = stats.binom.isf(1e-7, runs, alpha)
    assert max(worst, mean) <= most


def test_the_command(found, capsys):
    main(["judge-errors", str(found[1]), "--sensitivity", "47/50", "--specificity", "0.95"])
    said = " ".join(capsys.readouterr().out.split())
    assert "sensitivity 47 of 50, specificity 0.95" in said
    assert "with confidence 0.99" in said
    with pytest.raises(SystemExit):
        main(["judge-errors", str(found[1]), "--sensitivity", "good", "--specificity", "0.95"])
    assert "sensitivity is 'good': write 47/50" in " ".join(capsys.readouterr().err.split())


def test_an_audit_that_stopped_early_is_refused():
    early = audit(
        FakeModel(0.0), PROMPTS, scorer="contains", num_samples=3000, until="leak<=0.05", alpha=0.05, progress=False
    )
    with pytest.raises(InputError, match="stopped early or drew without replacement"):
        judged_audit(early, **RATES)


def test_rates_are_read():
    assert parse_rate("x", "47/50") == (47, 50)
    assert parse_rate("x", "0.94") == 0.94
    for text in ("47 of 50", "-1/5", "1/2/3", ""):
        with pytest.raises(InputError):
            parse_rate("x", text)


def terminal(judged):
    console = Console(file=io.StringIO(), width=100)
    console.print(report.to_terminal(report.document_of(judged)))
    return console.file.getvalue()


def test_the_table_says_what_its_bounds_hold_for(found):
    judged = judged_audit(found[0], **RATES)
    text = terminal(judged)
    said = " ".join(text.split())
    assert "P(leak): bounds for each prompt alone, with confidence 0.99; for a prompt picked by its result use" in said
    assert "Flagged: observed." in said
    assert "no limit" not in said
    assert "more" not in said
    lines = [line.split() for line in text.splitlines() if line.strip()[:2] in ("p0", "p1", "p2")]
    bounds = dict(zip(judged.ids, judged.prompts, strict=True))
    assert [line[0] for line in lines] == sorted(bounds, key=lambda name: -bounds[name].upper)
    for name, share, _, upper in lines:
        assert share == slow.near(found[0].prompts[int(name[1])].num_leaks / 400)
        assert upper == slow.up(bounds[name].upper)
    many = dataclasses.replace(
        judged, ids=tuple(map(str, range(21))), prompts=judged.prompts * 7, flagged=judged.flagged * 7
    )
    assert "… and 1 more" in " ".join(terminal(many).split())


def test_where_verdicts_prove_nothing_the_remedy_is_said(found):
    """Half of alpha for the draws, a quarter for each rate; without a flag 1 - (alpha / 2)^(1/n) over sensitivity."""
    one = found[0].prompts[0]
    always = dataclasses.replace(one, num_leaks=400, leak=dataclasses.replace(one.leak, estimate=1.0, upper=1.0))
    loud = dataclasses.replace(found[0], prompts=(always, *found[0].prompts[1:]))
    judged = judged_audit(loud, **RATES)
    least = slow.lower(47, 50, 0.0025)
    n = next(n for n in range(1, 1000) if (1 - 0.005 ** (1 / n)) / least <= 0.1)
    assert judged.enough == n
    said = " ".join(terminal(judged).split())
    assert (
        f"“no limit”: these verdicts prove nothing there; {n} draws without a flag prove P(leak) <= 0.1, more that are "
        "flagged do not help." in said
    )
    assert "For every prompt, nothing can be said yet of P(leak)" in said
    blind = judged_audit(found[0], sensitivity=(3, 5), specificity=(5, 10))
    assert blind.enough is None
    assert "label more completions: the judge may be no better than chance." in " ".join(terminal(blind).split())
    assert judged_audit(found[0], sensitivity=1.0, specificity=1.0).enough == slow.enough(0.01)


def test_what_stands_against_the_audit_stands_against_its_judged_statements(found):
    plain, _ = found
    clean = judged_audit(plain, **RATES)
    assert clean.cautions == ()
    assert "Caution" not in f"{clean} {terminal(clean)}"
    later = judged_audit(dataclasses.replace(plain, planned=False), **RATES)
    log = {
        "imported": {
            "format": "x",
            "assumes": "much",
            "statement": "later",
            "cautions": ["Copies were found."],
            "cut_unknown": 3,
        }
    }
    logged = judged_audit(dataclasses.replace(plain, run={**plain.run, **log}), **RATES)
    cut = dataclasses.replace(plain.prompts[0], cut_clean=0.75)
    short = judged_audit(dataclasses.replace(plain, prompts=(cut, *plain.prompts[1:])), **RATES)
    for judged, told in (
        (later, "chosen after the draws"),
        (logged, "The answers come from a log of x; the statement was later. Assumed: much."),
        (logged, "Copies were found."),
        (logged, "Of 3 draws the log does not say whether they were cut"),
        (short, "25 % of a prompt's draws on average, 75 % at most, were cut at max_tokens before they were flagged"),
    ):
        assert told in str(judged)
        assert told in " ".join(terminal(judged).split())


def test_verify_makes_judged_json_again(tmp_path):
    audit(FakeModel(0.1), PROMPTS, scorer="contains", num_samples=60, out=tmp_path, progress=False)
    judged = judged_audit(Audit.load(tmp_path), sensitivity=(47, 50), specificity=0.95)
    judged.save(tmp_path)
    assert (judged.sensitivity, judged.specificity) == ("47/50", "0.95")
    found = verify(tmp_path)
    assert found.accepted, str(found)
    assert [check.what for check in found.checks][-1] == "judged.json made again"
    mean = dataclasses.replace(judged.mean_leak, upper=judged.mean_leak.upper * 0.999)
    for wrong, told in (
        (dataclasses.replace(judged, mean_leak=mean), "mean_leak.upper"),
        (dataclasses.replace(judged, cautions=("none",)), "cautions"),
        (dataclasses.replace(judged, specificity="97/100"), "says otherwise"),
        (dataclasses.replace(judged, sensitivity=""), "does not name its rates"),
        (dataclasses.replace(judged, sensitivity="often"), "write 47/50"),
    ):
        wrong.save(tmp_path)
        found = verify(tmp_path)
        assert not found.accepted
        assert told in str(found)
    judged.save(tmp_path)
    bound(Run.open(tmp_path), alpha=0.2)  # the judged statements are those of another audit now
    assert not verify(tmp_path).accepted
