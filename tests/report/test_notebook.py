"""A cell of a notebook shows one output: by the bundle of a result, and in a real kernel where there is one."""

import pytest
from report_fixture import make_audit

CELL = """
import time
from leakbound import FakeModel, Prompt, audit
from leakbound.runs import progress

class Slow(FakeModel):
    def sample(self, *given):
        time.sleep({wait})
        return super().sample(*given)

progress.IN_NOTEBOOK = {every}
prompts = [Prompt(str(i), "Who?", "secret") for i in range(3)]
audit(Slow(leak=0.1), prompts, scorer="contains", num_samples=64, out="run")
"""


def test_a_result_is_what_a_terminal_shows_as_html_and_as_text():
    shown = make_audit(12)._repr_mimebundle_(include=None, exclude=None)
    assert set(shown) == {"text/html", "text/plain"}
    for said in ("Tolerance:", "Next:"):
        assert said in shown["text/plain"]
        assert said in shown["text/html"]
    assert shown["text/html"].count("<pre") == 1
    assert "\x1b" not in shown["text/html"] + shown["text/plain"]


@pytest.mark.slow
@pytest.mark.parametrize(("wait", "every"), [(0, 1e9), (0.05, 0.0)])
def test_an_audit_in_a_kernel_is_one_output(wait, every, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.format(wait=wait, every=every))])
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = notebook.cells[0].outputs
    shown = [one for one in outputs if one.output_type == "stream" or one.data]
    assert [one.output_type for one in shown] == ["execute_result"]
    assert (len(outputs) > 1) == (every == 0)  # where the line was written it is empty now
    assert set(shown[0].data) == {"text/html", "text/plain"}
