"""What is asked of the viewer: a page of prompts or of completions, filtered, searched and sorted; or an export."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from leakbound.errors import InputError
from leakbound.report.document import to_csv
from leakbound.report.parts import Table
from leakbound.report.tables import full_rows
from leakbound.viewing import showing
from leakbound.viewing.answers import Answer
from leakbound.viewing.folder import Folder, Line

Query = Mapping[str, str]
MOST = 500
"""Rows of one page at most."""


class Shelf:
    """The open runs, by their place on the command line."""

    def __init__(self, folders: list[Folder]) -> None:
        self.folders = folders

    def folder(self, query: Query, name: str = "run") -> Folder:
        """The run that a query names by its number."""
        return self.folders[_whole(query, name, most=len(self.folders) - 1)]

    def runs(self, _: Query) -> dict[str, Any]:
        """All runs; what has changed on the disk is opened again."""
        for i, folder in enumerate(self.folders):
            if (fresh := folder.fresh()) is not folder:
                self.folders[i] = fresh
        return {"runs": [showing.told(folder) for folder in self.folders], "sorts": list(SORTS)}

    def progress(self, query: Query) -> dict[str, Any]:
        """How far the shards of a run were counted; that begins when it is asked first, after the page is there."""
        for folder in self.folders:
            folder.begin_counting()
        return showing.progress(self.folder(query))

    def prompts(self, query: Query) -> dict[str, Any]:
        """A page of prompts, and how many there are."""
        folder, other = self.folder(query), self.folder(query, "other") if query.get("other") else None
        lines = self.chosen(query)
        start, count = _whole(query, "start"), _whole(query, "count", 100, most=MOST)
        rows = []
        for line in lines[start : start + count]:
            row = showing.line_of(folder, line)
            if other is not None and (there := _there(folder, other, line)) is not None:
                row["other"] = showing.line_of(other, there)
            rows.append(row)
        at = query.get("at")
        place = (
            next((i for i, line in enumerate(lines) if folder.run.prompts[line.index].id == at), None) if at else None
        )
        return {"total": len(lines), "of": len(folder.lines), "start": start, "rows": rows, "at": place}

    def chosen(self, query: Query) -> list[Line]:
        """The prompts that a query means, in its order."""
        folder = self.folder(query)
        prompts, lines = folder.run.prompts, folder.lines
        if picked := query.get("pick"):
            indexes = set(picked.split(","))
            return [line for line in lines if str(line.index) in indexes]
        if wanted := set(filter(None, query.get("status", "").split(","))):
            lines = [line for line in lines if (line.status or "unknown") in wanted or _verdict(line) in wanted]
        for word in query.get("q", "").casefold().split():
            lines = [line for line in lines if word in _words(prompts[line.index])]
        other = self.folder(query, "other") if query.get("other") else None
        if other is not None and query.get("changed"):
            lines = [x for x in lines if (there := _there(folder, other, x)) is None or there.status != x.status]
        key = SORTS.get(query.get("sort") or "verdict")
        if key is None:
            raise InputError(f"sort is {query['sort']!r}: give one of {', '.join(SORTS)}")
        return sorted(lines, key=lambda line: key(folder, other, line), reverse=query.get("down") == "1")

    def prompt(self, query: Query) -> dict[str, Any]:
        """One prompt: what was stated of it, and a page of its completions."""
        folder = self.folder(query)
        index = folder.places.get(query.get("id", ""))
        if index is None:
            return {"missing": f"{folder.name} has no prompt {query.get('id', '')!r}"}
        line, answers = folder.lines[index], folder.shards.answers(index)
        chosen = list(_answers(folder, answers, query))
        start, count = _whole(query, "start"), _whole(query, "count", 50, most=MOST)
        shown = chosen[start : start + count]
        if (draw := query.get("draw", "")) and start == 0:  # the one that a link points to, wherever it stands
            shown += [a for a in answers if a not in shown and _is_draw(a, draw)]
        problem = showing.problem_of(folder, line, answers)
        return {
            **showing.line_of(folder, line),
            "asked": showing.asked(folder, index),
            "facts": list(showing.facts_of(folder, line)),
            "temperatures": showing.by_temperature(self.folders, folder, index),
            "problem": problem and vars(problem),
            "total": len(chosen),
            "of": len(answers),
            "start": start,
            "answers": [showing.answer_of(folder, index, a) for a in shown],
            "found": next((showing.answer_of(folder, index, a)["draw"] for a in shown if _is_draw(a, draw)), None),
        }

    def export(self, query: Query) -> Iterator[dict[str, Any]]:
        """The chosen prompts in full; with ``what=answers`` their completions, one a line."""
        folder = self.folder(query)
        lines = self.chosen(query)
        if (id := query.get("id")) is not None:
            if id not in folder.places:
                raise InputError(f"id is {id!r}: {folder.name} has no such prompt")
            lines = [folder.lines[folder.places[id]]]
        if query.get("what") != "answers":
            yield from _prompt_rows(folder, lines)
            return
        for line in lines:
            prompt = folder.run.prompts[line.index]
            for answer in _answers(folder, folder.shards.answers(line.index), query):
                yield {
                    "run": folder.name, "id": prompt.id, "prompt": prompt.text, "target": prompt.target,
                    "kind": "greedy" if answer.greedy else "sampled", "temperature": 0 if answer.greedy else
                    folder.run.params.temperature, "count": answer.count, "leaks": showing.leaks(folder, answer),
                    **{f"score {name}": value for name, value in answer.scores.items()},
                    "finish_reason": answer.finish_reason, "logprob": answer.logprob, "text": answer.text,
                    "draws": list(answer.draws),
                }  # fmt: skip

    def written(self, query: Query, kind: str) -> str:
        """The export as a text: csv, or jsonl."""
        return (as_csv if kind == "csv" else as_json_lines)(self.export(query))


def _prompt_rows(folder: Folder, lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """What the report's CSV says of these prompts; without an audit what is known of them."""
    order = {folder.run.prompts[line.index].id: i for i, line in enumerate(lines)}
    if folder.audit is not None:
        rows = [row for row in full_rows(folder.audit, folder.guess) if row["id"] in order]
        for row in sorted(rows, key=lambda row: order[str(row["id"])]):
            line = lines[order[str(row["id"])]]
            yield {
                "run": folder.name,
                **row,
                **({"status": showing.tone(folder, line.status)["label"]} if folder.retain else {}),
            }
        return
    known = [] if folder.certification is None else list(folder.certification.rows())
    for line in lines:
        prompt = folder.run.prompts[line.index]
        row = known[line.index] if known else {"id": prompt.id, "text": prompt.text, "target": prompt.target}
        yield {"run": folder.name, **row, "status": line.status or "not stated"}


def as_json_lines(rows: Iterator[dict[str, Any]]) -> str:
    """One object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows: Iterator[dict[str, Any]]) -> str:
    """A table that no spreadsheet runs."""
    all_rows = list(rows)
    head = tuple(dict.fromkeys(name for row in all_rows for name in row))
    cells = tuple(tuple("" if row.get(name) is None else str(row[name]) for name in head) for row in all_rows)
    return to_csv(Table(head, cells))


def _there(folder: Folder, other: Folder, line: Line) -> Line | None:
    """The same prompt in another run, if it is the same in all of its words."""
    prompt = folder.run.prompts[line.index]
    index = other.places.get(prompt.id)
    return other.lines[index] if index is not None and other.run.prompts[index] == prompt else None


def _verdict(line: Line) -> str:
    return line.row.result.stands if line.row is not None else ""


def _words(prompt: Any) -> str:
    turns = (text for _, text in prompt.before)
    return "\n".join((prompt.id, prompt.text, prompt.target, *prompt.aliases, *turns)).casefold()


def _rate(folder: Folder, line: Line | None) -> float:
    """The observed share of leaks; -1 where nothing is known, so that it stands last and not as a low number."""
    if line is None:
        return -1.0
    if line.rate is not None:
        return line.rate
    leaks, draws = folder.tally.of(line.index)
    return leaks / draws if draws else -1.0


def _limit(_: Folder, __: Folder | None, line: Line) -> float:
    """Minus the upper bound on P(leak) that holds for all prompts at once; where there is none it is 1."""
    if line.row is not None:
        return -line.row.result.leak_jointly.upper
    return -line.certificate.leak.upper if line.certificate is not None else -1.0


def _more(folder: Folder, other: Folder | None, line: Line) -> float:
    """By how much the other run leaks more: the largest first."""
    return 0.0 if other is None else _rate(folder, line) - _rate(other, _there(folder, other, line))


SORTS: dict[str, Callable[[Folder, Folder | None, Line], Any]] = {
    "verdict": lambda _, __, line: line.rank,
    "leaks": lambda folder, _, line: -_rate(folder, line),
    "bound": _limit,
    "difference": _more,
    "id": lambda folder, _, line: folder.run.prompts[line.index].id,
    "file": lambda _, __, line: line.index,
}
"""The orders of prompts; ``down=1`` turns one round."""


def _answers(folder: Folder, answers: Sequence[Answer], query: Query) -> Iterator[Answer]:
    """The completions that a query means: worst first, most frequent first, or as they were drawn."""
    show, search = query.get("show", "all"), query.get("find", "").casefold()
    wanted = {"all": (True, False, None), "leaks": (True,), "clean": (False,), "unscored": (None,)}.get(show)
    if wanted is None and show != "cut":
        raise InputError(f"show is {show!r}: give all, leaks, clean, cut or unscored")
    found = [
        a
        for a in answers
        if (a.finish_reason == "length" if wanted is None else showing.leaks(folder, a) in wanted)
        and search in a.text.casefold()
    ]
    order = query.get("order", "score")
    if order == "draw":
        found.sort(key=lambda a: (not a.greedy, a.draws[0]))
    elif order == "count":
        found.sort(key=lambda a: (not a.greedy, -a.count, a.text))
    else:  # a completion without a score is not below one with 0
        found.sort(key=lambda a: (not a.greedy, -a.scores.get(folder.scorer, 2.0), -a.count, a.text))
    return iter(found)


def _is_draw(answer: Answer, draw: str) -> bool:
    return answer.greedy if draw == "greedy" else not answer.greedy and draw in map(str, answer.draws)


def _whole(query: Query, name: str, usual: int = 0, most: int = 2**31) -> int:
    """A whole number of a query."""
    text = query.get(name, "") or str(usual)
    if not (text.isdecimal() and text.isascii() and len(text) < 11 and int(text) <= most):
        raise InputError(f"{name} is {text!r}: give a whole number from 0 to {most}")
    return int(text)
