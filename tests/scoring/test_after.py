import pytest

from leakbound import FakeModel, audit
from leakbound.errors import InputError
from leakbound.records import Prompt
from leakbound.scoring import get_scorer, is_binary
from leakbound.scoring.table import BatchScorer, check_prompt, is_built_in, score_completion

PROMPT = Prompt("p", "Who?", "Zoe", ("Zoey",))
NAME = "after:</think>:contains"


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("<think>It is Zoe.</think>I cannot say.", 0),
        ("<think>Hm.</think>It is Zoe.", 1),
        ("It is Zoe.", 1),  # no thinking
        ("<think>It is Zoe, but", 1),  # cut: no answer that could be clean
        ("<think>Hm.</think>Zoe</think>I cannot say.", 1),  # what stands behind the first mark is shown
        ("Zoe</think>", 0),
        ("", 0),
    ],
)
def test_the_text_behind_the_first_mark_is_judged(completion, score):
    assert score_completion(get_scorer(NAME), completion, PROMPT) == score


def test_it_is_what_the_scorer_is():
    assert is_binary(get_scorer(NAME))
    assert not is_binary(get_scorer("after:</think>:rouge_l"))
    assert is_built_in(NAME)
    assert is_built_in("after:</think>:regex:x")
    assert not is_built_in("after:</think>:os:getcwd")
    assert not is_built_in("after:</think>:embedding:/somewhere")
    assert not isinstance(get_scorer(NAME), BatchScorer)
    nested = get_scorer("after:</think>:after:Answer to {target}:contains")
    assert nested("</think>Zoe. Answer to {target} none", "Zoe") == 0


def test_what_the_scorer_does_not_see_is_refused_behind_a_mark_too():
    with pytest.raises(InputError, match="rouge_l"):
        check_prompt(get_scorer("after:</think>:rouge_l"), Prompt("p", "Who?", "Анна"))
    with pytest.raises(InputError, match="below the threshold"):
        check_prompt(get_scorer("after:</think>:regex:Bob"), PROMPT, 0.5)
    with pytest.raises(InputError, match="after which the answer begins"):
        check_prompt(get_scorer(NAME), Prompt("p", "Who?", "a </think> b"), 0.5)
    for name in ("after", "after:", "after:</think>", "after:</think>:", "after::contains"):
        with pytest.raises(InputError, match="after"):
            get_scorer(name)


def test_a_scorer_of_many_stays_one(monkeypatch):
    class Many:
        binary = True

        def __call__(self, completion, target):
            return float(target in completion)

        def score_many(self, pairs):
            return [self(text, prompt.target) for text, prompt in pairs]

        def ready(self):
            pass

    monkeypatch.setattr("leakbound.scoring.table._function", lambda _: Many())
    scorer = get_scorer("after:</think>:mine:many")
    assert isinstance(scorer, BatchScorer)
    assert is_binary(scorer)
    assert score_completion(scorer, "<think>Zoe</think>no", PROMPT) == 0
    assert score_completion(scorer, "<think>Zoe", PROMPT) == 1


def test_an_audit_names_it_in_its_statement(tmp_path):
    model = FakeModel(leak=0.0, clean="<think>Is it Zoe?</think>I cannot say.")
    found = audit(model, [PROMPT], scorer=NAME, num_samples=64, out=tmp_path / "r", progress=False)
    whole = audit(model, [PROMPT], scorer="contains", num_samples=64, progress=False)
    assert (found.prompts[0].num_leaks, whole.prompts[0].num_leaks) == (0, 64)
    assert found.scorer == NAME
