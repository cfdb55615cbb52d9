"""A part that is interrupted keeps its pieces, and goes on to the same bytes."""

import io

import pytest
from interrupted import interrupt
from noting import PROMPTS, Noting
from tiny_models import tiny_model, word_tokenizer

from leakbound.auditing.drawing import Statement, sample
from leakbound.errors import IncompleteRunError
from leakbound.models.hf import HFModel
from leakbound.models.hf import model as model_module
from leakbound.records import Prompt, SamplingParams
from leakbound.runs import progress
from leakbound.runs.store import Run


class Stopping(Noting):
    """Draws a third of what is left of one prompt at a time, and is interrupted before its piece number ``stop``."""

    def __init__(self, stop=None):
        super().__init__(leaks=(("p0", 0.5),))
        self.stop, self.made = stop, []

    def sample_more(self, shard, params, left):
        if len(self.made) == self.stop:
            raise KeyboardInterrupt
        left = [d for d in self.sample(shard, params) if d.places[0] in left.get(d.prompt_id, ())]
        self.made.append([(d.prompt_id, d.count) for d in left[:1]])
        return left[:1]


def everything(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def draw(out, model, **changes):
    return sample(model, PROMPTS, out, **{"num_samples": 20, "statement": Statement("contains"), **changes})


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"until": "leak<=0.3", "num_samples": 100}], ids=["plain", "rounds"])
def test_whatever_is_interrupted_ends_with_the_same_bytes(tmp_path, changes):
    usual = Stopping()
    draw(tmp_path / "usual", usual, **changes)
    number = len(usual.made)
    assert number > 6
    for stop in range(0, number, 1 if number < 20 else 7):
        model = Stopping(stop)
        with pytest.raises(KeyboardInterrupt):
            draw(tmp_path / f"{stop}", model, **changes)
        model.stop = None
        draw(tmp_path / f"{stop}", model, **changes)
        assert len(model.made) == number  # no piece was drawn twice
        assert everything(tmp_path / f"{stop}") == everything(tmp_path / "usual")


def test_what_is_kept_counts_as_done_and_is_verified(tmp_path, monkeypatch):
    model = Stopping(6)
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "run", model)
    run = Run.open(tmp_path / "run")
    (part, *_) = run.missing_draws()
    assert part.name == "sample-00000"
    kept = sum(d.count for d in run.pieces.draws(part))
    assert 0 < kept < 80
    assert not run.has_draws(part)
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    model.stop = None
    first = sorted((run.path / "pieces").iterdir())[0]
    data = first.read_bytes()
    first.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(IncompleteRunError, match=r"sample-00000.00000.parquet is damaged .*delete the file"):
        draw(tmp_path / "run", model)
    first.write_bytes(data)
    draw(tmp_path / "run", model, progress=True)
    lines = [line for line in said.getvalue().splitlines() if line.startswith("drawing run")]
    assert lines[-1].startswith("drawing run: 80 of 80 draws, 100 %")
    assert len(lines) > 3  # one for each piece
    first_seen = int(next(line for line in lines if " 80 of" not in line).split()[2])
    assert first_seen > kept


@pytest.mark.parametrize("stop", [1, *(pytest.param(s, marks=pytest.mark.slow) for s in (2, 4))])
def test_a_real_model_that_is_killed_goes_on_to_the_same_bytes(tmp_path, monkeypatch, stop):
    """Log-probabilities too: what a piece is computed from follows from those before it."""
    prompts = tuple(Prompt(str(i), text, "c") for i, text in enumerate(["a b", "c", "d d a", "b a c d"]))
    params = SamplingParams(max_tokens=6)
    monkeypatch.setattr(model_module, "PIECE", 1e-9)

    def begin(out, stop=None):
        box = HFModel(tiny_model(), word_tokenizer(), batch_rows=8)
        box._forward.budget.seconds = lambda rows, tokens: 1.0
        interrupt(monkeypatch, box, "sample_more", stop)
        sample(box, prompts, out, num_samples=100, params=params)

    begin(tmp_path / "usual")
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path / "run", stop)
    begin(tmp_path / "run")
    assert everything(tmp_path / "run") == everything(tmp_path / "usual")
