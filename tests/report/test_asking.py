"""The table of k answers, made again from the audit's numbers by another path."""

from dataclasses import replace

import numpy as np
import slow_path as slow
from made_audits import ask, made

from leakbound import report
from leakbound.bounds import max_score_at_k_bound, survival_bound
from leakbound.report import asking


def test_the_rows_follow_from_the_audits_own_bounds():
    leaks, n = [0, 3, 12], 100
    audit = made(leaks, n)
    rows = asking.rows(audit)
    assert [row[0] for row in rows] == ["1 answer", "10 answers", "100 answers", "1,000 answers"]
    worst, average = slow.upper(12, n, 0.01), slow.pooled(15, 300, 0.01)
    for row, k in zip(rows, asking.ASKED, strict=True):
        if k <= n:  # the chance that k of the n draws, picked at random, hold a leak
            clean = [np.prod([(n - c - i) / (n - i) for i in range(k)]) for c in leaks]
            seen = 1 - np.mean(clean)
        else:
            seen = 1 - np.mean([(1 - c / n) ** k for c in leaks])
        assert row[1] == slow.near(float(seen))
        for cell, limit in zip(row[2:], (average, worst), strict=True):
            assert cell == slow.cell(1 - (1 - limit) ** k)
    assert rows[0][2:] == (slow.cell(average), slow.cell(worst))  # asked once: the statements of the audit
    (table,) = asking.section(audit).parts
    assert table.rows == rows
    assert len(table.head) == len(rows[0]) == 4
    assert "confidence 0.99" in asking.note(audit)
    assert "Best score" not in asking.note(audit)


def test_graded_scores_have_a_best_one():
    audit = made([0, 3], 100)
    bands = [survival_bound(x, alpha=0.01, thresholds=[0.0, 0.2, 0.5]) for x in ([0.1] * 100, [0.0] * 90 + [0.4] * 10)]
    audit = replace(
        audit, prompts=tuple(replace(p, survival=band) for p, band in zip(audit.prompts, bands, strict=True))
    )
    rows = asking.rows(audit, (1, 10))
    assert asking.section(audit).parts[0].head[-1] == "best score, every prompt"
    assert "Best score" in asking.note(audit)
    for row, k in zip(rows, (1, 10), strict=True):
        assert row[-1] == slow.cell(max(max_score_at_k_bound(band, k).upper for band in bands))


def test_audits_that_stopped_or_drew_without_replacement_have_the_table():
    stopped = ask([0.0, 0.05], until="leak<=0.2")
    assert [row[3] for row in asking.rows(stopped, (1,))] == [slow.cell(stopped.worst_prompt.upper)]
    base = made([0, 1])
    distinct = replace(base, prompts=tuple(replace(p, limits=p.leak) for p in base.prompts))
    (row,) = asking.rows(distinct, (10,))
    assert row[1] == slow.near((1 - 0.99**10) / 2)  # numbers of distinct answers are no frequencies: plug-in


def test_where_every_answer_leaks_nothing_is_said():
    audit = made([100, 0], 100)
    assert [row[3] for row in asking.rows(audit)] == ["no limit"] * 4


def test_the_page_and_markdown_show_it():
    audit = made([0, 3], 100)
    row = asking.rows(audit)[1]
    for text in (report.to_markdown(audit), report.to_html(audit).replace("\xa0", " ")):
        assert asking.TITLE in text
        assert all(cell in text for cell in row)
