"""What the records take and refuse."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from leakbound.errors import InputError
from leakbound.records import Prompt, SamplingParams


@pytest.mark.parametrize(
    "temperature",
    [1e-38, 1e-45, 1e-300, 1e-30, 1e-10, 9.9e-5, -1.0, -1e-300, math.inf, -math.inf, math.nan, 1e308, 10**400, 1.1e4,
     True, False, "1", None, [1.0], np.array([1.0]), np.float32("nan"), 1j],
)  # fmt: skip
def test_a_temperature_without_a_law_is_refused(temperature):
    with pytest.raises(InputError, match=r"temperature is .*: give a number from 0.0001 to 10000, or 0 for greedy"):
        SamplingParams(temperature=temperature)


@pytest.mark.parametrize(
    "temperature", [0, 0.0, -0.0, 1e-4, 0.7, 1, 2, 1e4, np.float32(0.5), np.int64(2), Fraction(1, 2)]
)
def test_a_usual_temperature_is_kept_as_a_float(temperature):
    params = SamplingParams(temperature=temperature)
    assert params.temperature == temperature
    assert type(params.temperature) is float  # transformers refuses the int 2
    assert params.greedy == (temperature == 0)


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "top_p": [0, -0.1, 1.1, math.nan, math.inf, True, "1", None],
        "top_k": [-1, 1.5, math.nan, math.inf, True, False, "1", None],
        "min_p": [-0.1, 1.1, math.nan, True, "0", None],
        "adaptive_temperature": [-0.1, 2, math.nan, True, "0.5", None],
        "max_tokens": [0, -1, 1.5, math.nan, math.inf, True, "1", None],
        "adaptive_mode": ["always", None, True],
        "stop": [("",), ["a", ""], "", (1,), (True,), (None,), {"a", "b"}, b"END", ("a", b"b"), None, 5, iter(["a"])],
    }.items(),
)
def test_what_is_no_parameter_is_refused(field, values):
    for value in values:
        with pytest.raises(InputError, match=rf"^{field} is .*: give"):
            SamplingParams(**{field: value})


def test_numbers_of_numpy_are_plain_numbers_afterwards():
    params = SamplingParams(
        temperature=np.float64(0.5),
        top_p=np.float32(0.5),
        top_k=np.int64(5),
        min_p=np.float64(0.25),
        max_tokens=np.int32(7),
    )
    plain = SamplingParams(temperature=0.5, top_p=0.5, top_k=5, min_p=0.25, max_tokens=7)
    assert params == plain
    assert json.dumps(params.to_json()) == json.dumps(plain.to_json())
    assert type(SamplingParams(top_k=50.0).top_k) is int  # a log's JSON may say 50.0


@pytest.mark.parametrize("stop", [["END"], ("END",)])
def test_stop_is_a_list_of_texts(stop):
    params = SamplingParams(stop=stop)
    assert params.stop == ("END",)
    assert params.to_json()["stop"] == ["END"]
    assert SamplingParams.from_json(params.to_json()) == params
    assert hash(params) == hash(SamplingParams(stop=("END",)))


@pytest.mark.parametrize("aliases", ["NYC", ("NYC", ""), (" ",), {"NYC"}, (1,), None, b"NYC"])
def test_aliases_are_a_list_of_texts(aliases):
    with pytest.raises(InputError, match=r"prompt 'p': aliases is .*: give a list of non-empty texts"):
        Prompt("p", "Where?", "New York", aliases)


def test_aliases_become_a_tuple():
    prompt = Prompt("p", "Where?", "New York", ["NYC"])
    assert prompt == Prompt("p", "Where?", "New York", ("NYC",))
    assert hash(prompt) == hash(Prompt("p", "Where?", "New York", ("NYC",)))
