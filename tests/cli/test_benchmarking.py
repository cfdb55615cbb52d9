"""``leakbound benchmark`` reaches every setting of what it holds: draws, model, unlearning."""

from collections import Counter
from dataclasses import fields

import pytest

from leakbound.auditing.settings import Drawn, How
from leakbound.cli import app
from leakbound.evaluating.config import BenchmarkConfig
from leakbound.records import SamplingParams
from leakbound.unlearning import UnlearnConfig

SET_BY_THE_BENCHMARK = {
    "model": "the first task starts from --model, each other one from the model before",
    "forget": "the task's own questions",
    "retain": "what the task does not forget",
    "out": "OUT/task-NN/model",
    "template": "the models are trained with the template that they are asked with: --template",
    "seed": "--seed is that of the whole run",
    "device": "training goes where the model is loaded: --device",
    "trust_remote_code": "as the model is loaded: --trust-remote-code",
    "resume": "a benchmark always goes on where it was interrupted; --save-every says how often that is possible",
}


def options():
    """Path of a setting in the config -> its option."""
    found = app["benchmark"].assemble_argument_collection()
    return {argument.keys: argument.name for argument in found if argument.keys and argument.name != "*"}


def parsed(*given):
    tokens = ["benchmark", "tofu", "--model", "m", *given]
    _, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    return bound.arguments["config"]


@pytest.mark.parametrize(
    ("held", "where"),
    [(UnlearnConfig, ("unlearning",)), (Drawn, ("drawn",)), (How, ("how",)), (SamplingParams, ("how", "params"))],
)
def test_every_setting_of_what_it_holds_is_an_option(held, where):
    known = options()
    names = [field.name for field in fields(held)]
    missing = {name for name in names if not any(path[: len(where) + 1] == (*where, name) for path in known)}
    assert missing == (set(SET_BY_THE_BENCHMARK) if held is UnlearnConfig else set())


def test_no_two_settings_have_one_option():
    """Two that did would leave one of them out of reach, without a word."""
    twice = [option for option, number in Counter(options().values()).items() if number > 1]
    assert not twice


def test_names_that_clashed_lead_to_different_settings():
    config = parsed("--revision", "a", "--model-revision", "b", "--max-tokens", "5", "--unlearn-max-tokens", "6")
    assert (config.revision, config.how.loading.revision) == ("a", "b")
    assert (config.how.params.max_tokens, config.unlearning.max_tokens) == (5, 6)


def test_a_setting_that_is_given_leaves_the_defaults_beside_it():
    """cyclopts makes a group from its class, so that the default of the field must be that of the class."""
    for group in ("drawn", "how", "unlearning"):
        default = getattr(BenchmarkConfig(model="m"), group)
        assert default == type(default)()
    config = parsed("--temperature", "0.7", "--width", "0.1", "--num-samples", "9", "--lora-alpha", "3")
    assert (config.how.params.max_tokens, config.how.scorer) == (200, "auto")
    assert (config.drawn.num_samples, config.drawn.width) == (9, 0.1)
    assert (config.unlearning.method, config.unlearning.lora_alpha) == ("ME+GD", 3)
