"""Files of rows for the tests that read them."""

import json


def write_lines(path, rows):
    """Write each row as a line of JSON; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
