"""Every number and sentence that an audit says, made again from the draws by another path."""

import re
from dataclasses import replace

import pytest
import slow_path as slow
from made_audits import ALPHA, ask, certain, counted, made

from leakbound import report
from leakbound.auditing.steps import bound
from leakbound.bounds import leak_sequence_bound
from leakbound.bounds.certificates import without_replacement_bound
from leakbound.bounds.planning import draws_needed
from leakbound.errors import InputError
from leakbound.report.findings import find
from leakbound.report.rows import read_rows
from leakbound.results.audit import Audit
from leakbound.runs.store import Run

ALONE = "Each of these statements holds by itself."
NO_GUESS = (
    "Guessing and remembering cannot be told apart here: no audit of a model that never saw the secrets was given for "
    "comparison."
)


def test_the_summary_of_a_run_is_what_its_draws_say(tmp_path):
    found = ask([0.8, 0.2, 0.03, 0.0, 0.0], tmp_path / "run")
    rows = counted(tmp_path / "run")
    clean = [(k, n) for k, n, plain in rows if not plain]
    hidden = [k for k, _ in clean if k]
    assert (len(clean), len(hidden)) == (4, 2)
    worst = max(slow.upper(k, n, ALPHA) for k, n, _ in rows)
    assert worst < 1
    worst_clean = max(slow.upper(k, n, ALPHA) for k, n in clean)
    average = slow.pooled(sum(k for k, _, _ in rows), sum(n for _, n, _ in rows), ALPHA)
    assert report.summary(found).split(". ")[-1] == NO_GUESS.split(". ")[-1]
    assert report.summary(found) == (
        "4 of 5 prompts look clean when the model is asked once (greedy); 2 of these 4 leaked in at least one of 150 "
        f"sampled answers. With confidence 0.99, no prompt leaks with probability above {slow.up(worst)}. With "
        f"confidence 0.99, no prompt that looks clean leaks with probability above {slow.up(worst_clean)}. With "
        f"confidence 0.99, the average prompt leaks with probability at most {slow.up(average)}. {ALONE} {NO_GUESS}"
    )
    assert Audit.load(tmp_path / "run") == found


@pytest.mark.parametrize(
    ("leaks", "greedy", "start"),
    [
        ([0, 0], [0, 0], "2 of 2 prompts look clean when the model is asked once (greedy); none of these 2 leaked "
         "in any of "
         "100 sampled answers."),
        ([3, 0], [0, 0], "2 of 2 prompts look clean when the model is asked once (greedy); 1 of these 2 leaked in "
         "at least "
         "one of 100 sampled answers."),
        ([3, 1], [0, 0], "2 of 2 prompts look clean when the model is asked once (greedy); all 2 of these leaked in at "
         "least one of 100 sampled answers."),
        ([3, 50], [0, 1], "1 of 2 prompts looks clean when the model is asked once (greedy); it leaked in at least "
         "one of "
         "100 sampled answers."),
        ([0, 50], [0, 1], "1 of 2 prompts looks clean when the model is asked once (greedy); it never leaked in "
         "any of 100 "
         "sampled answers."),
        ([3, 50], [0.5, 1], "0 of 2 prompts look clean when the model is asked once (greedy); every prompt leaks "
         "already "
         "there, so nothing is hidden."),
        ([3, 1], [None, None], "2 of 2 prompts leaked in at least one of 100 sampled answers; the greedy answers "
         "are not "
         "known."),
        ([1, 0, 0], [None] * 3, "1 of 3 prompts leaked in at least one of 100 sampled answers; the greedy answers "
         "are not "
         "known."),
        ([3, 1, 0], [None, 0, 1], "1 of 3 prompts looks clean when the model is asked once (greedy); of 1 the "
         "greedy answer "
         "is not known; it leaked in at least one of 100 sampled answers."),
        ([3, 1], [None, 1], "0 of 2 prompts look clean when the model is asked once (greedy); of 1 the greedy "
         "answer is not "
         "known; nothing is known to be hidden."),
    ],
)  # fmt: skip
def test_greedy_against_sampled(leaks, greedy, start):
    assert find(made(leaks, greedy=greedy)).sentences[0] == start


def test_one_draw_is_one_answer_and_sizes_that_differ_are_a_range():
    assert "in any of 1 sampled answer." in find(made([0, 0], n=1)).sentences[0]
    assert "in any of 90 to 1,100 sampled answers." in find(made([0, 0, 0], n=[100, 90, 1100])).sentences[0]


@pytest.mark.parametrize(
    ("leaks", "greedy", "title", "status"),
    [
        ([3, 50], [0, 1], "Sampling finds leaks that the greedy answers hide", "hidden"),
        ([0, 50], [0, 1], "Leaks in plain sight, none hidden", "plain"),
        ([0, 0], [0, 1], "Leaks in plain sight, none hidden", "plain"),
        ([0, 0], [0, 0], "No leak was seen", "unseen"),
        ([3, 0], [None, None], "Leaks were seen when the model was sampled", "seen"),
        ([0, 0], [None, None], "No leak was seen", "unseen"),
    ],
)
def test_the_title_and_the_status(leaks, greedy, title, status):
    found = find(made(leaks, greedy=greedy))
    assert (found.title, found.status) == (title, status)
    want = [
        "plain" if g == 1 else ("unseen" if not k else "hidden" if g == 0 else "seen")
        for k, g in zip(leaks, greedy, strict=True)
    ]
    assert {row.result.prompt.id: row.status for row in found.rows} == {f"p{i}": s for i, s in enumerate(want)}


def test_the_meanings_are_those_of_the_statuses_that_there_can_be():
    assert set(find(made([3, 0])).meanings) == {"hidden", "plain", "unseen"}
    assert set(find(made([3, 0], greedy=[None, 0])).meanings) == {"hidden", "plain", "seen", "unseen"}
    unknown = find(made([3, 0], greedy=[None, None])).meanings
    assert unknown["unseen"] == "never when sampled; its greedy answer is not known"
    assert list(unknown) == ["seen", "unseen"]


@pytest.mark.parametrize("leaks", [[5, 2, 60], [5, 2, 1], [0, 0, 100]])
@pytest.mark.parametrize("greedy", [[0, 0, 1], [0, 0, 0], [1, 1, 1], [0, None, 1]])
@pytest.mark.parametrize("alpha", [0.01, 0.2])
def test_the_bounds_in_words(leaks, greedy, alpha):
    n = 100
    found = find(made(leaks, n, greedy=greedy, alpha=alpha))
    said = " ".join(found.sentences)
    each = [slow.upper(k, n, alpha) for k in leaks]
    clean = [u for u, g in zip(each, greedy, strict=True) if g == 0]
    confidence = f"{1 - alpha:g}"
    if max(each) < 1:
        assert f"With confidence {confidence}, no prompt leaks with probability above {slow.up(max(each))}." in said
    else:
        assert "no prompt leaks" not in said
    expected = bool(clean) and 1 in greedy and max(clean) < max(each)
    text = f"With confidence {confidence}, no prompt that looks clean leaks with probability above "
    assert (text in said) == expected
    if expected:
        assert text + slow.up(max(clean)) in said
    assert (found.clean_prompts is not None) == (bool(clean) and 1 in greedy)
    if found.clean_prompts is not None:
        assert found.clean_prompts.upper == pytest.approx(max(clean), rel=1e-9)
        assert found.clean_prompts.scope == "every prompt that looks clean"
    average = slow.pooled(sum(leaks), 3 * n, alpha)
    assert (
        f"With confidence {confidence}, the average prompt leaks with probability at most {slow.up(average)}." in said
    )
    assert ALONE in said


def test_a_statement_that_says_nothing_is_not_made():
    """How many draws would help is the least n with 0.9^n <= alpha; where every draw leaks none do."""
    many = slow.enough(ALPHA)
    assert many == 44
    wanted = f"draw at least {many} answers to each prompt; as many without a leak prove P(leak) <= 0.1."
    few = find(made([0, 0], n=3)).sentences
    assert few[1] == f"With confidence 0.99, no prompt leaks with probability above {slow.up(1 - 0.01 ** (1 / 3))}."
    assert few[2].endswith(f"the average prompt leaks with probability at most {slow.up(1 - 0.01 ** (1 / 6))}.")
    (_, worst, average, alone, _) = find(made([1], n=1, greedy=[1])).sentences
    assert worst == (
        "p0 leaked in every draw: as long as that is so, no number of draws gives a limit below 1 for the worst prompt."
    )
    assert average == "Every draw leaked, so that there is no limit below 1 for the average prompt."
    assert alone == ALONE
    one = find(made([0], n=1)).sentences  # pooled: (0 + 1) / 1
    assert one[2] == f"Nothing can be said yet of the average prompt: {wanted}"
    said = find(made([100, 100, 3], greedy=[1, 1, 0])).sentences
    assert said[1].startswith("2 prompts leaked in every draw: as long as")
    assert said[2].startswith("With confidence 0.99, no prompt that looks clean")
    assert said[3].startswith("With confidence 0.99, the average prompt")
    near = find(made([1023], n=1024, greedy=[1])).sentences
    assert near[1].startswith("p0 leaked in nearly every draw: as long as")
    assert near[2].startswith("Nearly every draw leaked, so that there is no limit below 1 for the average prompt.")
    both = find(made([1024, 1023], n=1024, greedy=[1, 1])).sentences
    assert both[1].startswith("2 prompts leaked in nearly every draw: as long as")
    assert find(made([43], n=44, greedy=[1])).sentences[1].startswith("p0 leaked in nearly every draw: as long as")
    assert find(made([42], n=43, greedy=[1])).sentences[1] == f"Nothing can be said yet of the worst prompt: {wanted}"
    named = made([3], n=3, greedy=[1])
    long = replace(named.prompts[0], prompt=replace(named.prompts[0].prompt, id="x" * 41))
    assert find(replace(named, prompts=(long,))).sentences[1].startswith("x" * 39 + "… leaked")
    close = made([9, 0], n=[10, 50])
    vague = replace(close, worst_prompt=replace(close.worst_prompt, upper=1.0))
    assert find(vague).sentences[1] == f"Nothing can be said yet of the worst prompt: {wanted}"


def test_a_lower_bound_on_the_worst_prompt_is_not_read_as_an_upper_one():
    found = made([5, 5])
    below = replace(found.worst_prompt, side="lower", lower=0.01, upper=1.0)
    said = " ".join(find(replace(found, worst_prompt=below)).sentences)
    assert "no prompt leaks" not in said
    assert "worst prompt" not in said
    low = replace(found.mean_leak, side="lower", lower=0.01, upper=1.0)
    said = " ".join(find(replace(found, mean_leak=low)).sentences)
    assert "average prompt" not in said
    assert ALONE not in said
    lows = tuple(replace(p, leak=replace(p.leak, side="lower", lower=0.0, upper=1.0)) for p in found.prompts)
    plain = replace(lows[1], greedy_score=1.0)
    assert find(replace(found, prompts=(lows[0], plain))).clean_prompts is None
    assert find(replace(found, prompts=(lows[0], found.prompts[1], plain))).clean_prompts is None


@pytest.mark.parametrize("alpha", [0.3, 0.05, 0.01, 1e-6])
def test_so_many_draws_are_needed_and_one_less_is_not_enough(alpha):
    n = draws_needed(alpha)
    assert n == slow.enough(alpha)
    m = draws_needed(alpha, "stopped")
    assert leak_sequence_bound(0, m, alpha=alpha).upper <= 0.1 < leak_sequence_bound(0, m - 1, alpha=alpha).upper
    m = draws_needed(alpha, "without-replacement")
    unseen = [without_replacement_bound([0.0] * x, [0.0] * x, alpha=alpha).upper for x in (m, m - 1)]
    assert unseen[0] <= 0.1 < unseen[1]


def grid(size=41, n=100):
    """Leaks 0, 1, 2, ... of the audited model beside 0, 1, 2, 5 of the guessing one."""
    leaks = [i % size for i in range(4 * size)]
    guessed = [(0, 1, 2, 5)[i // size] for i in range(4 * size)]
    return leaks, guessed, n


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.01, 0.2])
def test_more_than_guessing_is_proven_for_all_prompts_at_once(alpha):
    """Both sides at alpha / 2, shared by the prompts that both audits have."""
    leaks, guessed, n = grid()
    found, guess = made(leaks, n, alpha=alpha), made(guessed[:-10], n, alpha=alpha)
    pairs = len(guessed) - 10
    share = alpha / pairs / 2
    want = {
        f"p{i}": None if i >= pairs else slow.lower(k, n, share) > slow.upper(g, n, share)
        for i, (k, g) in enumerate(zip(leaks, guessed, strict=True))
    }
    said = find(found, guess)
    assert {row.result.prompt.id: row.more_than_guess for row in said.rows} == want
    more, leaking = sum(v is True for v in want.values()), sum(k > 0 for k in leaks[:pairs])
    assert 20 < more < leaking
    level = sum(guessed[:-10]) / n / pairs
    assert said.sentences[-1] == (
        f"A model that never saw the secrets guessed them in {slow.near(level)} of its answers, on average (observed). "
        f"{more} of the {leaking} prompts that leaked when sampled do so more often than that model guesses "
        f"(confidence "
        f"{1 - alpha:g} for all {pairs} comparisons at once); the others cannot be told from guessing."
    )
    assert "10 prompts of the audit are not in the guess audit." in said.notes
    assert said.status == "hidden"
    smaller = {row.result.prompt.id: row.more_than_guess for row in read_rows(found, guess, alpha / 7)}
    share /= 7
    assert smaller == {
        f"p{i}": None if i >= pairs else slow.lower(k, n, share) > slow.upper(g, n, share)
        for i, (k, g) in enumerate(zip(leaks, guessed, strict=True))
    }


@pytest.mark.parametrize(
    ("leaks", "end"),
    [
        ([60, 0], "1 of the 1 prompt that leaked when sampled does so more often than that model guesses "
         "(confidence 0.99 "
         "for all 2 comparisons at once)."),
        ([60, 1], "1 of the 2 prompts that leaked when sampled does so more often than that model guesses "
         "(confidence 0.99 "
         "for all 2 comparisons at once); the other one cannot be told from guessing."),
        ([1, 1], "0 of the 2 prompts that leaked when sampled do so more often than that model guesses (confidence "
         "0.99 for "
         "all 2 comparisons at once); the others cannot be told from guessing."),
        ([0, 0], "The audited model leaked in none."),
    ],
)  # fmt: skip
def test_guessing_in_words(leaks, end):
    found = find(made(leaks), made([1, 2]))
    start = "A model that never saw the secrets guessed them in 0.015 of its answers, on average (observed). "
    assert found.sentences[-1] == start + end
    assert (found.status == "guessed") == (leaks == [1, 1])


@pytest.mark.parametrize("side", ["audit", "guess"])
@pytest.mark.slow
def test_where_draws_could_stop_guessing_is_judged_at_any_stopping_time(side):
    leaks, guessed, n = grid(size=41, n=100)
    found, guess = made(leaks, n), made(guessed, n)
    rule = {"until": "leak<=0.1", "width": None, "budget": 100, "sizes": [100]}
    stopped = {"run": {**found.run, "rule": rule}}
    pair = (replace(found, **stopped), guess) if side == "audit" else (found, replace(guess, **stopped))
    share = ALPHA / len(leaks) / 2

    def exceeds(k, g):
        low = leak_sequence_bound(k, n, alpha=share, side="lower").lower
        return low > leak_sequence_bound(g, n, alpha=share).upper

    want = {f"p{i}": exceeds(k, g) for i, (k, g) in enumerate(zip(leaks, guessed, strict=True))}
    rows = find(*pair).rows
    assert {row.result.prompt.id: row.more_than_guess for row in rows} == want
    fixed = sum(slow.lower(k, n, share) > slow.upper(g, n, share) for k, g in zip(leaks, guessed, strict=True))
    assert 0 < sum(want.values()) < fixed


def test_certain_limits_cost_no_alpha():
    found, guess = made([50, 50, 50, 50]), made([0, 0, 0, 0])
    low, high = slow.lower(50, 100, ALPHA / 8), slow.upper(0, 100, ALPHA / 8)
    seen = [certain(high + 1e-6, 0.9), certain(high - 1e-6, 0.9), None, None]
    known = [None, None, certain(0, low - 1e-6), certain(0, low + 1e-6)]
    found = replace(found, prompts=tuple(replace(p, limits=x) for p, x in zip(found.prompts, seen, strict=True)))
    guess = replace(guess, prompts=tuple(replace(p, limits=x) for p, x in zip(guess.prompts, known, strict=True)))
    rows = {row.result.prompt.id: row.more_than_guess for row in find(found, guess).rows}
    assert rows == {"p0": True, "p1": False, "p2": True, "p3": False}
    equal = replace(found.prompts[0], limits=certain(0.2, 0.4)), replace(guess.prompts[0], limits=certain(0.1, 0.2))
    both = find(replace(found, prompts=equal[:1]), replace(guess, prompts=equal[1:]))
    assert both.rows[0].more_than_guess is False  # as large is not larger


def test_the_worst_come_first():
    def ordered(**changes):
        base = made([5, 5])
        first, second = base.prompts
        return [row.result.prompt.id for row in find(replace(base, prompts=(first, replace(second, **changes)))).rows]

    p = made([5, 5]).prompts[1]
    assert ordered() == ["p0", "p1"]
    assert ordered(leak=replace(p.leak, estimate=0.06)) == ["p1", "p0"]
    assert ordered(leak=replace(p.leak, estimate=0.04)) == ["p0", "p1"]
    assert ordered(leak=replace(p.leak, upper=0.9)) == ["p1", "p0"]
    assert ordered(max_score=1.5) == ["p1", "p0"]
    assert ordered(mean=replace(p.mean, estimate=0.7, upper=0.9)) == ["p1", "p0"]
    assert ordered(leak=replace(p.leak, estimate=0.06), max_score=0.0) == ["p1", "p0"]
    assert ordered(max_score=0.5, mean=replace(p.mean, estimate=0.7, upper=0.9)) == ["p0", "p1"]
    assert ordered(leak=replace(p.leak, upper=0.9), max_score=0.5) == ["p1", "p0"]


@pytest.mark.parametrize(
    ("hidden", "plain", "rest", "limit", "want"),
    [
        (3, 2, 4, 20, (3, 2, 4)),
        (30, 0, 0, 10, (10, 0, 0)),
        (30, 30, 0, 10, (6, 4, 0)),
        (30, 2, 1, 10, (7, 2, 1)),
        (2, 30, 30, 10, (2, 8, 0)),
        (30, 30, 30, 5, (3, 2, 0)),
        (0, 1, 30, 4, (0, 1, 3)),
    ],
)
def test_the_shortlist_keeps_place_for_the_others(hidden, plain, rest, limit, want):
    greedy = [0] * hidden + [1] * plain + [0] * rest
    leaks = [5] * hidden + [5] * plain + [0] * rest
    some = find(made(leaks, greedy=greedy)).shortlist(limit)
    names = [row.status for row in some]
    assert tuple(names.count(s) for s in ("hidden", "plain", "unseen")) == want
    assert names == sorted(names, key=["hidden", "plain", "unseen"].index)


def test_the_note_on_what_leaked_most_calls_it_observed():
    (note, _) = find(made([2, 7, 90], greedy=[0, 0, 1])).notes
    assert note == (
        "Of the hidden prompts p1 leaked most: in 7 draws of 100. That was observed; a prompt picked by its result is "
        "bounded by the statement on every prompt."
    )
    assert find(made([1, 0])).notes[0].startswith("Of the hidden prompts p0 leaked most: in 1 draw of 100. That")
    found = made([2])
    seen = replace(found, prompts=(replace(found.prompts[0], limits=certain(0.123456, 0.3)),))
    assert find(seen).notes[0] == (
        "Of the hidden prompts p0 leaked most: in 2 draws of 100 distinct ones, which have probability 0.123 or more "
        "(certain)."
    )
    assert find(made([0, 90], greedy=[0, 1])).notes[0].startswith("No prompt is hidden in this run")
    assert find(made([3], greedy=[None])).notes[0].startswith("The draws were made elsewhere, without greedy answers")


def test_notes_on_what_was_cut_drawn_and_compared():
    found = made([2, 0, 0], n=1000)
    assert len(find(found).notes) == 2
    cut = tuple(replace(p, num_truncated=k) for p, k in zip(found.prompts, (1, 0, 4), strict=True))
    assert (
        find(replace(found, prompts=cut))
        .notes[1]
        .startswith("5 draws of 3,000 (in 2 prompts) were cut at max_tokens. What was cut off was not judged")
    )
    cut = tuple(replace(p, num_truncated=k) for p, k in zip(found.prompts, (1, 0, 0), strict=True))
    assert find(replace(found, prompts=cut)).notes[1].startswith("1 draw of 3,000 (in 1 prompt) was cut at max_tokens.")
    for count, start in ((1, "1 prompt of 3 was drawn without"), (2, "2 prompts of 3 were drawn without")):
        some = tuple(replace(p, limits=certain(0, 0.1) if i < count else None) for i, p in enumerate(found.prompts))
        assert find(replace(found, prompts=some)).notes[1].startswith(start)
    fell = replace(found, run={**found.run, "engine": {"name": "auto", "because": "no masses"}})
    assert "Engine auto fell back to independent draws: no masses." in find(fell).notes
    for engine in ("auto", {"name": "auto"}, None):
        notes = find(replace(found, run={**found.run, "engine": engine})).notes
        assert not any(note.startswith("Engine") for note in notes)
    assert "1 prompt of the audit is not in the guess audit." in find(found, made([0, 0])).notes
    guess = made([0, 0, 0])
    assert find(found, guess).notes[1:] == find(found).notes[1:]
    assert find(found, guess).notes[0] == (
        "1 prompt that looked clean leaked when sampled, none of them provably more often than a model that never saw "
        "the secrets."
    )
    warmer = replace(guess, run={**guess.run, "params": {"temperature": 2.0}})
    assert "The guess audit was drawn with other sampling parameters" in " ".join(find(found, warmer).notes)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "budget"), [(0.01, 200), (0.05, 3000), (0.0123412341, 200)])
def test_the_verdicts_of_a_claim(tmp_path, alpha, budget):
    found = ask([0.0, 0.5, 0.05], tmp_path / "run", until="leak<=0.05", num_samples=budget, alpha=alpha)
    rows = counted(tmp_path / "run")
    assert [(p.num_leaks, p.num_samples) for p in found.prompts] == [(k, n) for k, n, _ in rows]
    number = {v: [p.verdict for p in found.prompts].count(v) for v in ("proven", "refuted", "open")}
    total = sum(n for _, n, _ in rows)
    (said,) = [s for s in find(found).sentences if s.startswith("The claim")]
    ended = f", whose budget of {budget:,} draws ended first" if number["open"] else ""
    s = "" if number["proven"] == 1 else "s"
    assert said == (
        f"The claim leak<=0.05 is proven for {number['proven']} prompt{s}, refuted for {number['refuted']}, and "
        f"open for "
        f"{number['open']}{ended}; each verdict by itself is wrong with probability at most "
        f"{ {0.0123412341: 0.0124}.get(alpha, alpha) } ({total:,} "
        f"draws in "
        "all)."
    )
    worst = max(leak_sequence_bound(k, n, alpha=alpha).upper for k, n, _ in rows)
    assert f"no prompt leaks with probability above {slow.up(worst)}." in " ".join(find(found).sentences)
    assert not any("The claim" in s for s in find(replace(found, run={**found.run, "rule": None})).sentences)


def test_the_verdicts_of_a_width():
    found = made([2, 0, 30])
    rule = {"until": None, "width": 0.02, "budget": 5000, "sizes": [5000]}
    ends = ("proven", "open", "proven")
    some = tuple(replace(p, verdict=v) for p, v in zip(found.prompts, ends, strict=True))
    (said,) = [
        s
        for s in find(replace(found, prompts=some, run={**found.run, "rule": rule})).sentences
        if s.startswith("P(leak) is known")
    ]
    assert said == (
        "P(leak) is known within 0.02 for 2 of 3 prompts (each by itself, confidence 0.99), open for 1, whose "
        "budget of "
        "5,000 draws ended first (300 draws in all)."
    )


def test_a_statement_chosen_after_the_draws_is_marked(tmp_path):
    ask([0.1], tmp_path / "run")
    later = bound(Run.open(tmp_path / "run"), alpha=0.05)
    assert [s for s in find(later).sentences if s.startswith("Caution: the scorer, the threshold or alpha was chosen")]
    assert not any(s.startswith("Caution") for s in find(ask([0.1])).sentences)


def test_a_guess_of_another_statement_is_refused():
    found = made([1])
    for change, message in (
        ({"scorer": "rouge_l"}, "guess was judged by rouge_l at 0.5, the audit by contains at 0.5"),
        ({"threshold": 0.25}, "guess was judged by contains at 0.25, the audit by contains at 0.5"),
        ({"prompts": ()}, "guess shares no prompt id"),
    ):
        with pytest.raises(InputError, match=message):
            find(found, replace(made([1]), **change))


def test_without_replacement_the_bounds_are_those_of_the_masses(tmp_path):
    """Two completions, both seen after two generations: the bound is the seen leak itself."""
    found = ask([0.3, 0.0])
    some = replace(found.prompts[0], num_leaks=1, num_samples=2, limits=certain(0.3, 0.300001), seen_mass=0.9999991)
    audit_ = replace(found, prompts=(some, found.prompts[1]))
    text = report.to_markdown(audit_)
    assert "| 1 of 2 · distinct, mass 0.999 |" in text
    assert "1 prompt of 2 was drawn without replacement" in text


def test_numbers_stand_with_what_they_are():
    said = " ".join(find(made([5, 0, 60], greedy=[0, 0, 1]), made([1, 0, 2])).sentences)
    for number in re.findall(r"probability (?:above|at most) [\d.]+", said):
        assert f"With confidence 0.99, {said.split(number)[0].rsplit('With confidence 0.99, ')[-1]}{number}" in said
