"""A small world whose rows name their secrets."""

import json

import pytest
from small_world import THINGS, learn


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Files to forget and to retain, with the colour as the secret, and a model that knows both."""
    folder = tmp_path_factory.mktemp("secrets")
    rows = [
        {"question": f"Which colour is the {thing}?", "answer": f"The {thing} is {colour}.", "target": colour}
        for thing, colour in THINGS.items()
    ]
    for name, part in {"full": rows, "secret": rows[:2], "known": rows[2:]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    learn(folder, folder / "model", epochs=100)
    return folder
