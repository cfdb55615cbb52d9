"""The columns of the files in a run folder, and draws as their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from leakbound.records import Draw

DRAWS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("text", pa.string()),
        ("count", pa.int64()),
        ("first", pa.int64()),
        ("finish_reason", pa.string()),
        ("num_tokens", pa.int64()),
        ("logprob", pa.float64()),
        ("places", pa.list_(pa.int64())),
    ]
)
OPEN = (pa.field("tokens", pa.list_(pa.int64())), pa.field("certainty", pa.float64()))
"""Only in pieces of counted draws: what is known of a prefix whose draws have not been split, one row each."""
ASCENDING = ("places.list.element",)
COUNTS = pa.schema([DRAWS.field(name) for name in ("prompt_id", "first", "count")])
SCORES = pa.schema([("prompt_id", pa.string()), ("first", pa.int64()), ("score", pa.float64())])
PROMPTS = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("target", pa.string()), ("aliases", pa.list_(pa.string()))]
)
BEFORE = pa.field("before", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
"""Only where a prompt has turns before it."""


def draw_of(row: Mapping[str, Any]) -> Draw:
    """The draw of one row."""
    return Draw(**{name: row[name] for name in DRAWS.names if name != "places"}, places=row["places"])


def storable(draws: Sequence[Draw]) -> list[dict[str, Any]]:
    """The draws as rows of a file; where a prompt's places are not known for all of its rows, they are for none."""
    unknown, rows = {d.prompt_id for d in draws if d.places is None}, [dict(vars(d)) for d in draws]
    for row in rows:
        row["text"] = row["text"].encode("utf-8", "replace").decode()  # lone surrogates have no UTF-8
        row["places"] = None if row["prompt_id"] in unknown else row["places"]
    return rows
