"""deepeval: ``test_run_*.json`` of ``results_folder``, or ``.deepeval/.latest_run_full.json``.

A test case has ``input``, ``actualOutput`` and ``expectedOutput``; cases with one input and one expected output are the
draws of one prompt. Its metrics are not taken over. What decoded the answers only ``hyperparameters`` can tell.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leakbound.errors import IncompleteRunError, InputError
from leakbound.importing.drawn import Drawn, grouped, one_file, others
from leakbound.importing.imported import Log
from leakbound.reading.parsing import read_json

REPEATED = re.compile(r"(.*?)(\d+)-(\d+)\]$", re.DOTALL)
"""The end of a test's name with ``deepeval test run --repeat N``: the repeat and N."""

SETTINGS = ("temperature", "top_p", "top_k", "min_p", "max_tokens")
"""Fields of SamplingParams."""


def read(path: Path) -> Log:
    """The test cases of a run. IncompleteRunError where one is lost, has no output, or a repeat never came."""
    file = one_file(path, "test_run_*.json")
    data = read_json(file)
    data = data.get("testRunData") or data
    cases = data.get("testCases")
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise InputError(f"{file}: there is no list testCases in it; give test_run_*.json of results_folder")
    if data.get("conversationalTestCases"):
        raise InputError(
            f"{file}: {len(data['conversationalTestCases'])} conversational test cases are in it, whose later turns "
            "depend on earlier answers: import a run of single answers (LLMTestCase)"
        )
    _all_there(cases, file)
    asked = grouped(_drawn(case, f"{file}: testCases[{i}]") for i, case in enumerate(cases))
    decoding, model, seed, besides = _stated(data.get("hyperparameters") or {})
    failed = sum(case.get("success") is False for case in cases)
    notes: tuple[str, ...] = (f"deepeval's metrics failed {failed:,} of {len(cases):,} cases; that is not taken over.",)
    if made := sum("synthetic_input_quality" in (case.get("metadata") or {}) for case in cases):
        notes += (f"{made:,} test cases were made by deepeval's synthesizer: what counts as secret, a model wrote.",)
    return Log("deepeval", file, model, asked, decoding, notes, seed, others=besides)


def _all_there(cases: list[dict[str, Any]], file: Path) -> None:
    """Every case that was begun is in the log: a lost one may be lost for its answer."""
    orders = [case.get("order") for case in cases]
    if orders != list(range(len(cases))):
        at = next(i for i, order in enumerate(orders) if order != i)
        raise IncompleteRunError(
            f"{file}: testCases[{at}] has order {orders[at]!r}, not {at}: a test case before it was skipped or failed; "
            "run again without ignore_errors and skip_on_missing_params"
        )
    named = [REPEATED.match(str(case.get("name"))) for case in cases]
    found = [(one[1], int(one[2]), int(one[3])) for one in named if one]
    if len(found) < len(cases) or len({n for _, _, n in found}) != 1:  # no run with --repeat
        return
    there, n = {(name, i) for name, i, _ in found}, found[0][2]
    for name in dict.fromkeys(name for name, _ in there):
        lost = [i for i in range(1, n + 1) if (name, i) not in there]
        if lost:
            raise IncompleteRunError(
                f"{file}: test {name!r} has no repeat {lost[0]} of {n}: the run ended before (--exit-on-first-failure "
                "ends at a leak), or the model failed; run all repeats"
            )


def _drawn(case: Mapping[str, Any], where: str) -> Drawn:
    said = case.get("actualOutput")
    if said is None:
        raise IncompleteRunError(f"{where}: there is no actualOutput: a draw is missing; run it again")
    for key in ("toolsCalled", "imagesMapping"):
        if case.get(key):
            raise InputError(f"{where}: it has {key}, and only the text of the answer would be judged: leave such out")
    if case.get("expectedOutput") is None:
        raise InputError(f"{where}: there is no expectedOutput: give each test case the text that must not be said")
    return Drawn(case.get("input"), [case["expectedOutput"]], said, "unknown", where)


def _stated(given: Mapping[str, Any]) -> tuple[dict[str, Any], str, Any, dict[str, Any]]:
    """Fields of SamplingParams, model, seed and the others in the hyperparameters, which are stored as texts."""
    known = {re.sub(r"\W", "_", name.lower()): value for name, value in given.items()}
    for name, value in known.items():
        with contextlib.suppress(ValueError, TypeError):  # what is no number is refused by its name later, or a text
            known[name] = value if name == "model" else json.loads(value)
    found = {name: known[name] for name in SETTINGS if name in known}
    return found, str(known.get("model", "unnamed")), known.get("seed"), others(known, (*SETTINGS, "model", "seed"))
