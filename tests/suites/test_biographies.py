import json
import subprocess
import sys

import pytest
from nltk.stem.porter import PorterStemmer

from leakbound.errors import InputError
from leakbound.records import Prompt
from leakbound.scoring import get_scorer
from leakbound.suites import Suite
from leakbound.suites.base import SPLITS
from leakbound.suites.biographies import ATTRIBUTES, FIRST_NAMES, LAST_NAMES, biographies

EVERYTHING = tuple(ATTRIBUTES)


def test_the_splits_are_by_person_and_of_the_asked_sizes():
    world = biographies(num_people=120, forget_fraction=0.1, holdout_fraction=0.1)
    people = {split: {row.subject for row in world.rows(split)} for split in ("forget", "retain", "holdout")}
    assert {split: len(names) for split, names in people.items()} == {"forget": 12, "retain": 96, "holdout": 12}
    assert not people["forget"] & people["retain"]
    assert not people["holdout"] & (people["forget"] | people["retain"])
    assert len(world.forget) == 48
    assert world.full == world.forget + world.retain
    ids = [row.id for row in world.full + world.holdout]
    assert len(set(ids)) == len(ids) == 480


def test_the_same_seed_gives_the_same_world_and_another_seed_another():
    assert biographies(seed=3) == biographies(seed=3)
    assert biographies(seed=3).forget != biographies(seed=4).forget


def test_a_world_is_the_same_in_every_process():
    code = "from leakbound.suites.biographies import biographies as b; print(b(num_people=5).forget[0].answer)"
    answers = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    }
    assert answers == {biographies(num_people=5).forget[0].answer}


@pytest.mark.parametrize("key", [key for key in ATTRIBUTES if ATTRIBUTES[key].values])
def test_no_two_values_share_a_stemmed_word(key):
    stem = PorterStemmer().stem
    words = [stem(word.lower()) for value in ATTRIBUTES[key].values for word in value.split()]
    assert len(set(words)) == len(words)
    assert len(ATTRIBUTES[key].values) >= 48  # the guess level is one in this


def test_no_value_is_a_word_of_a_name_or_of_an_answer_around_it():
    names = {word.lower() for word in FIRST_NAMES + LAST_NAMES}
    for attribute in ATTRIBUTES.values():
        around = set(attribute.answer.replace(".", "").lower().split())
        for value in attribute.values:
            assert not {word.lower() for word in value.split()} & (names | around)


def test_answers_hold_their_target_and_wrong_answers_do_not():
    for row in biographies(num_people=60, attributes=EVERYTHING).full:
        assert row.target in row.answer
        assert row.target in row.paraphrased_answer
        assert row.subject in row.question
        assert row.subject in row.paraphrased_question
        assert row.paraphrased_question != row.question
        assert len(set(row.perturbed_answers)) == 5
        assert all(row.target not in wrong for wrong in row.perturbed_answers)
        assert not set(row.aliases) & set(ATTRIBUTES[row.attribute].values)


@pytest.mark.parametrize("scorer", ["rouge_l", "contains"])
def test_the_lexical_scores_separate_right_from_wrong_at_one_half(scorer):
    score = get_scorer(scorer)
    for row in biographies(num_people=60, attributes=EVERYTHING).full:
        assert score(row.answer, row.target) == 1.0
        assert score(row.paraphrased_answer, row.target) == 1.0
        assert all(score(wrong, row.target) < 0.5 for wrong in row.perturbed_answers)


def test_values_are_spread_evenly():
    world = biographies(num_people=120, holdout_fraction=0.0, attributes=["birthplace"])
    targets = [row.target for row in world.full]
    assert {targets.count(target) for target in targets} == {2}  # 60 towns for 120 people


def test_phone_numbers_are_distinct_and_have_aliases():
    rows = biographies(num_people=200, attributes=["phone"]).full
    assert len({row.target for row in rows}) == len(rows)
    assert rows[0].aliases[1] == f"{rows[0].target[:3]}-{rows[0].target[3:]}"


def test_the_files_hold_the_splits_in_the_keys_of_prompt_and_training_files(tmp_path):
    world = biographies(num_people=10)
    paths = world.write(tmp_path / "world")
    assert set(paths) == set(SPLITS)
    for split, path in paths.items():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [row["id"] for row in rows] == [row.id for row in world.rows(split)]
        assert all(isinstance(row["perturbed_answer"], list) for row in rows)
    first = json.loads(paths["forget"].read_text(encoding="utf-8").splitlines()[0])
    assert world.prompts("forget")[0] == Prompt(
        id=first["id"], text=first["question"], target=first["target"], aliases=tuple(first["aliases"])
    )


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="split is 'test': give one of forget, retain"):
        Suite("empty", (), ()).rows("test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_people": 2}, "num_people is 2: give a whole number from 3 to 2400"),
        ({"num_people": 2401}, "num_people is 2401"),
        ({"forget_fraction": 0}, "forget_fraction is 0"),
        ({"holdout_fraction": 1.0}, "holdout_fraction is 1.0"),
        ({"forget_fraction": 0.6, "holdout_fraction": 0.4}, "leave none of 120 people to retain"),
        ({"attributes": ()}, "attributes is "),
        ({"attributes": "book"}, "attributes is 'book'"),
        ({"attributes": ["book", "book"]}, "different names"),
        ({"attributes": ["book", "shoe size"]}, "attributes has 'shoe size'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        biographies(**arguments)


def test_the_module_loads_no_torch():
    code = "import sys, leakbound.suites.biographies; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
