"""Leak-k's ``generations_n200.json``: JSON lines of a prompt, its right answer and its sampled responses.

One line is ``{"prompt": ..., "ground_truth": ..., "responses": [{"response": ..., "rougeL_recall": ...}, ...]}``
(arXiv 2511.04934, read in its published code). Its own scores are not taken over: its judge counts failures as 0.
"""

from pathlib import Path

from leakbound.errors import InputError
from leakbound.importing.imported import Asked, Log
from leakbound.importing.values import texts
from leakbound.reading.rows import read_rows
from leakbound.records import Prompt


def read(path: Path) -> Log:
    """The prompts and responses of a file of generations; its folder names the model, for the file does not tell."""
    asked = []
    for row in read_rows(path, what="prompts", foreign=True):
        responses = row.values.get("responses")
        if not isinstance(responses, list) or not all(isinstance(r, dict) for r in responses):
            raise InputError(f"{row.where}: responses is {responses!r:.60}: not a list of objects with a response")
        said = texts([r.get("response") for r in responses], row.where, "response")
        prompt = Prompt(str(row.number - 1), row.text("prompt"), row.text("ground_truth"))
        asked.append(Asked(prompt, tuple((text, "unknown") for text in said), row.where))
    return Log("leak-k", path, path.resolve().parent.name, tuple(asked), {})
