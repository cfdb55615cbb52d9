"""Every result writes itself as JSON, reads itself again whole, becomes a frame and shows in a notebook."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from leakbound.bounds import Bound, proportion_bound
from leakbound.errors import InputError
from leakbound.results.base import Result
from leakbound.results.calibration import Calibration
from leakbound.results.comparison import Compared, Comparison, Diversity
from leakbound.results.judged import JudgedAudit

ONE = proportion_bound(3, 100, alpha=0.01)
MODEL = Compared("<b>m", 2, 1, 1, True, ONE, ONE, ONE, 0.5, None, None, Diversity(0.5, 0.25, 1.5), {"steps": 3})
RESULTS = (
    Calibration(0.5, 0.05, 1, 20),
    JudgedAudit(("<b>p", "q"), (0.5, 0.25), (ONE, ONE), ONE, ONE, None),
    Comparison(2, 0.01, (MODEL, MODEL), (ONE, ONE)),
    Comparison(2, 0.01, (MODEL,), None),
)


@dataclass(frozen=True)
class Inner:
    pair: tuple[float, str]


@dataclass(frozen=True)
class Nested(Result, file="nested.json", command="make it"):
    inner: Inner | None
    by_name: Mapping[str, Inner]
    lists: tuple[tuple[int, ...], ...]
    either: int | str
    bound: Bound
    later: int = 7

    def rows(self):
        yield {"later": self.later}


@pytest.mark.parametrize("found", RESULTS, ids=lambda found: type(found).__name__)
def test_results_survive_their_file(found, tmp_path):
    assert found.save(tmp_path) == tmp_path / found.FILE
    assert type(found).load(tmp_path) == type(found).load(tmp_path / found.FILE) == found
    assert found.save(tmp_path / "deep" / "x.json") == tmp_path / "deep" / "x.json"
    data = json.loads((tmp_path / found.FILE).read_text())
    assert type(found).from_json(data) == found  # whoever reads the file as JSON has the seal too
    assert len(data.pop("seal")) == 64
    assert data == found.to_json()
    frame = found.to_frame()
    assert len(frame) == len(list(found.rows())) > 0
    shown = found._repr_mimebundle_()["text/html"]
    assert "<b>" not in shown
    assert ("&lt;b&gt;" in shown) == (type(found) is not Calibration)
    assert shown.startswith("<pre")


def test_fields_are_read_as_their_types():
    whole = Nested(Inner((0.5, "x")), {"a": Inner((1.5, "y"))}, ((1, 2), ()), "text", ONE)
    data = json.loads(json.dumps(whole.to_json()))
    assert Nested.from_json(data) == whole
    assert hash(Nested.from_json(data).lists) == hash(whole.lists)
    del data["later"]  # a field that older files do not have
    assert Nested.from_json({**data, "inner": None}).inner is None
    assert Nested.from_json(data).later == 7


@pytest.mark.parametrize(
    "change",
    [{"more": 1}, {"bound": None}, {"bound": {"alpha": 2}}, {"inner": {"pair": [1]}}, {"lists": [1]}, {"by_name": []}],
)
def test_a_damaged_file_names_the_command_that_makes_it_again(change, tmp_path):
    whole = Nested(None, {}, (), 1, ONE)
    (tmp_path / "nested.json").write_text(json.dumps({**whole.to_json(), **change}))
    with pytest.raises(InputError, match=r"nested\.json': it cannot be read .*; run `make it` again"):
        Nested.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"^path is '.*empty': there is no nested\.json; run `make it` first"):
        Nested.load(tmp_path / "empty")


def test_a_path_that_is_no_folder_is_called_by_its_argument(tmp_path):
    (tmp_path / "file.bin").write_text("hello")
    with pytest.raises(
        InputError, match=r"^guess is '.*none': there is no such folder; give the one that holds nested"
    ):
        Nested.load(tmp_path / "none", "guess")
    with pytest.raises(InputError, match=r"^runs is '.*file\.bin': that is no folder; give the one that holds nested"):
        Nested.load(tmp_path / "file.bin", "runs")
