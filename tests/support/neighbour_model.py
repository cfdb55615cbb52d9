"""A tiny local model with a tokenizer that chats, prompts for it, and the blocks of docs/neighbours.md."""

import json
import re
from pathlib import Path

from tiny_models import tiny_model, word_tokenizer

PROMPTS = [{"id": "1", "text": "a b", "target": "c d"}, {"id": "2", "text": "b a", "target": "d a"}]
PAGE = Path(__file__).parents[2] / "docs" / "neighbours.md"


def save_model(place):
    """A folder ``model`` and a file ``secrets.jsonl`` in the place."""
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    tokenizer.save_pretrained(place / "model")
    tiny_model("gpt2", scale=1.0).save_pretrained(place / "model")
    rows = [{**prompt, "target": prompt["target"][0]} for prompt in PROMPTS]  # one word: it leaks now and then
    (place / "secrets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def page_blocks(section, language):
    """The blocks of one language under one heading of the page."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
