"""Sets of answers that leak: what is in them, and that they weigh what enumeration says."""

import json

import pytest
import torch
from enumerated import enumerate_law
from small_training import train
from small_world import SEEDS
from tiny_models import tiny_model, word_tokenizer

from leakbound.errors import InputError
from leakbound.models.template import encode_prompt
from leakbound.reading.pairs import Pair, read_pairs
from leakbound.records import Draw, SamplingParams
from leakbound.unlearning import UnlearnConfig, leaks
from leakbound.unlearning.data import IGNORED, Example, encode, example_of
from leakbound.unlearning.groups import Groups
from leakbound.unlearning.leaks import FindLeaks, by_question, said_by
from leakbound.unlearning.ledger import rows_checksum
from leakbound.unlearning.trainer import reference_logps

PAIRS = [
    Pair("a b", "b c", "line 1", ("c",)), Pair("d c a", "d d", "line 2", ("d b", "b b")),
    Pair("a b", "c a", "line 1, a leak", ("c",)),
]  # fmt: skip
C, D, B = 4, 5, 3


def finder(family="llama", pairs=PAIRS, **settings):
    config = UnlearnConfig(model="m", forget="f.jsonl", out="o", method="leak_mass", template="raw", **settings)
    groups = Groups(0)
    return FindLeaks(tiny_model(family, scale=2.0), word_tokenizer(), by_question(pairs), config, groups)


def weighed(find):
    with torch.no_grad():
        return find.groups.read(find.model, [p.text for p in find.prompts]).logps.exp().sum(1).tolist()


def has(tokens, *parts):
    return any(tokens[i : i + len(p)] == p for p in parts for i in range(len(tokens)))


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_all_that_leaks_weighs_what_enumeration_says(family):
    find = finder(family, max_tokens=3, leak_samples=1, leak_search=6**3, leak_kept=6**3)
    find.again()
    assert find.groups.trees == (family == "llama")
    params = SamplingParams(max_tokens=3)
    exact = []
    for pair, secrets in ((PAIRS[0], ((C,),)), (PAIRS[1], ((D, B), (B, B), (D, 0, B), (B, 0, B)))):
        law = enumerate_law(find.model, encode_prompt(find.tokenizer, pair.question, "raw"), params)
        exact.append(sum(p for tokens, p in law.items() if has(tuple(t for t in tokens if t), *secrets)))
    assert weighed(find) == pytest.approx(exact, abs=1e-6)
    assert find.groups.groups["a b"].tails[0] == (C,)  # one beginning for all that begin so, and it is in the rows
    assert all(len(tail) <= 3 for group in find.groups.groups.values() for tail in group.tails)


def test_the_set_grows_keeps_the_rows_and_is_capped():
    find = finder(max_tokens=5, leak_samples=8, leak_search=0, leak_kept=4)
    fixed = dict(zip(("a b", "d c a"), find.fixed, strict=True))
    assert fixed["a b"] == {(C,), (B, C)}
    before = {}
    for _ in range(4):
        find.again()
        groups = find.groups.groups
        assert all(fixed[name] <= set(group.tails) for name, group in groups.items())
        assert all(len(before[name]) <= len(groups[name].tails) for name in before)
        before = {name: group.tails for name, group in groups.items()}
    assert max(map(len, before.values())) == 4
    rest = [t for t in before["a b"] if t not in fixed["a b"]]
    logps = dict(zip(before["a b"], find.groups.read(find.model, ["a b"]).logps[0].tolist(), strict=True))
    assert rest == sorted(rest, key=lambda tail: -logps[tail])


def test_leaks_of_earlier_rounds_are_in_the_set_but_may_go():
    find = finder(
        pairs=[PAIRS[0], Pair("a b", "d c", "line 1, a leak", ("c",), leak=True)], max_tokens=2, leak_samples=1
    )
    find.again()
    assert (D, C) in find.groups.groups["a b"].tails
    assert (D, C) not in find.fixed[0]


def test_a_scorer_that_further_words_may_silence_counts_whole_answers():
    find = finder(max_tokens=3, leak_samples=1, leak_search=6**3, leak_kept=6**3, leak_scorer="exact_match")
    find.again()
    assert (C, 1) in find.groups.groups["a b"].tails
    assert (C,) not in find.groups.groups["a b"].tails


def test_words_of_a_lasting_leak_are_closed():
    find = finder(leak_scorer="rouge_l", leak_threshold=1.0, max_tokens=3)
    assert find.leaking(0, {(B, C, D): "b c d", (C, 1): "c"}) == [(B, C, D), (C, 1)]  # c alone could be another word
    assert find.leaking(0, {(C, D, D): "c d d"}) == [(C, D)]


def test_a_row_without_a_leak_is_refused_and_the_model_left_as_it_was():
    with pytest.raises(InputError, match="line 1: leak_scorer 'regex:z' gives neither"):
        finder(pairs=[Pair("a b", "b", "line 1", ("b a",))], leak_scorer="regex:z")
    find = finder(max_tokens=2, leak_samples=2, leak_search=2)
    find.model.train()
    find.again()
    assert find.model.training


@pytest.mark.parametrize(("every", "asked"), [(None, "0"), (2, "024")])
def test_draws_are_made_anew_as_often_as_asked(every, asked, monkeypatch):
    find, drawn = finder(leak_every=every), []
    monkeypatch.setattr(find, "draw", lambda: drawn.append(find.seed))
    find.on_epoch_begin(None, None, None)
    for step in range(6):
        find.on_step_begin(None, type("State", (), {"global_step": step}), None)
    assert len(drawn) == len(set(drawn)) == len(asked)


# Leak rounds ---------------------------------------------------------------------------------------------------------

BOX = Pair("Which colour is the box?", "The box is red.", "line 1", ("red",), ("The box has which colour?",))


def found(monkeypatch, said, pairs=(BOX,), **settings):
    """The leaks where each question gets the same completions: text -> (how often, how it ended)."""
    draws = [Draw("0", text, count, i, ended, 5, None) for i, (text, (count, ended)) in enumerate(said.items())]
    monkeypatch.setattr(leaks, "draw_answers", lambda m, t, asked, c, **_: [draws for _ in asked])
    config = UnlearnConfig(model="m", forget="f.jsonl", retain="r.jsonl", out="o", **settings)
    return leaks.find_leaks(None, None, list(pairs), config, round=1)


def test_new_leaks_of_a_round_are_those_said_most_in_all_wordings(monkeypatch):
    said = {"The box is red.": (9, "stop"), "Red!": (3, "stop"), "Red red red": (7, "length"), "Blue.": (5, "stop")}
    said |= {f"Red {i}.": (2, "stop") for i in range(leaks.LEAKS)}
    new = found(monkeypatch, said)
    assert [pair.question for pair in new] == [BOX.question] * leaks.LEAKS + [*BOX.rephrased] * leaks.LEAKS
    assert [pair.answer for pair in new[:3]] == ["Red red red", "Red!", "Red 0."]  # the row's own answer is none
    assert [pair.cut for pair in new[:3]] == [True, False, False]
    assert [pair.answer for pair in new[leaks.LEAKS :][:3]] == ["The box is red.", "Red red red", "Red!"]
    assert all(pair.leak and pair.secrets == ("red",) for pair in new)
    assert {pair.source for pair in new} == {"line 1, leak of round 2"}
    again = found(monkeypatch, said, (BOX, *new))
    assert [pair.answer for pair in again] == ["Red 6.", "Red 7.", "Red 5.", "Red 6.", "Red 7."]  # each once


def test_a_leak_that_was_cut_is_trained_on_without_an_end(tmp_path):
    """A model that says the secret over and over never ends: its text with an end is none that it says."""
    row = {"question": "a b", "answer": "c c c", "leak": True}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "cut": True}))
    pairs = read_pairs(tmp_path / "rows.jsonl")
    assert [pair.cut for pair in pairs] == [False, True]
    ended, cut = (encode(word_tokenizer(), pair, "raw", 99) for pair in pairs)
    assert ended.answer == (*cut.answer, word_tokenizer().eos_token_id)
    assert rows_checksum(pairs[:1]) != rows_checksum(pairs[1:])
    assert said_by(pairs) == {("a b", "c c c", False), ("a b", "c c c", True)}


# Training -------------------------------------------------------------------------------------------------------------


def leak_rates(model):
    """P(leak) of either question, enumerated."""
    asked = (((2, 3), ((C,),)), ((5, 4, 2), ((D, B), (B, B))))
    laws = [(enumerate_law(model, ids, SamplingParams(max_tokens=3)), secrets) for ids, secrets in asked]
    return [sum(p for t, p in law.items() if has(tuple(filter(None, t)), *secrets)) for law, secrets in laws]


@pytest.mark.trains
def test_training_lowers_the_exact_probability_of_a_leak_and_keeps_the_rest(tmp_path):
    """Of both questions below a tenth of what it was, and what is kept still likelier than not."""
    retain = [Example((2, 2, 5, 1), (IGNORED, IGNORED, 5, 1)), Example((3, 5, 2, 2, 1), (IGNORED, IGNORED, 2, 2, 1))]
    for seed in SEEDS:
        find = finder(max_tokens=3, leak_samples=16, leak_search=8, leak_every=8, seed=seed)
        find.model.load_state_dict(tiny_model(seed=seed, scale=1.0).state_dict())

        forget = [example_of(ids, (1,), pair) for ids, pair in zip(((2, 3), (5, 4, 2)), PAIRS, strict=False)]
        before = leak_rates(find.model)
        train(
            find.model, tmp_path, objective="leak_mass_gd", forget=forget, retain=retain, groups=find.groups,
            callbacks=[find], num_train_epochs=40, learning_rate=5e-3, seed=seed,
        )  # fmt: skip
        assert all(now < 0.1 * then for now, then in zip(leak_rates(find.model), before, strict=True))
        assert reference_logps(find.model, retain, pad_id=0, batch_size=2) > [-0.7] * 2
