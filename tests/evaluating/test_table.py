"""Several runs side by side."""

import pytest

from leakbound.errors import InputError
from leakbound.evaluating.table import benchmark_table


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"^runs is .*there is no such folder; give the one that holds benchmark\.json"
    ):
        benchmark_table([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="runs is empty"):
        benchmark_table([])
