"""How a question becomes token ids: the same way in training and in auditing.

A template is the name of a preset, or a text with ``{text}`` in it. ``"chat"`` is the tokenizer's own chat template;
``"auto"`` is ``"chat"`` where the tokenizer has one and ``"raw"`` where it has none. The answer follows after a blank;
after white space, or where the text ends in ``{answer}``, it follows at once.
"""

from __future__ import annotations

from typing import Any

from leakbound.errors import InputError

TEMPLATES = {
    "raw": "{text}",
    "qa": "Question: {text}\nAnswer:",
    "phi": "Question: {text}\nAnswer:",
    "llama2": "[INST] {text} [/INST]{answer}",
    "llama3": "<|start_header_id|>user<|end_header_id|>\n\n{text}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "muse": "Question: {text}\nAnswer: ",
}
"""Presets, each the format in which published models were trained and asked.

``qa``: the released code of arXiv 2410.03523; ``phi``, the same: TOFU's Phi-1.5 (arXiv 2401.06121). ``llama2``: TOFU's
Llama-2 and arXiv 2410.08109; ``llama3``: arXiv 2410.08109 (no system message, unlike the tokenizer's ``chat``).
``muse``: the questions of MUSE (arXiv 2407.06460), whose prompt ends in a blank.
"""


def resolve_template(tokenizer: Any, template: str) -> str:
    """The template that ``template`` stands for with this tokenizer: ``"chat"``, or a text with ``{text}`` in it."""
    has_chat = bool(getattr(tokenizer, "chat_template", None))
    if template == "auto":
        return "chat" if has_chat else TEMPLATES["raw"]
    if template == "chat":
        if not has_chat:
            raise InputError("template is 'chat', but the tokenizer has no chat template: use 'raw', 'qa' or a text")
        return "chat"
    text = TEMPLATES.get(template, template)
    if "{text}" not in text:
        known = ", ".join(["auto", "chat", *TEMPLATES])
        raise InputError(f"template is {template!r}: give one of {known}, or a text with {{text}} in it")
    return text


def encode_prompt(tokenizer: Any, text: str, template: str = "auto") -> list[int]:
    """The token ids that the model continues when it is asked ``text``."""
    resolved = resolve_template(tokenizer, template)
    if resolved == "chat":
        messages = [{"role": "user", "content": text}]
        encoded = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=True)
        return list(encoded["input_ids"])
    ids = list(tokenizer(resolved.removesuffix("{answer}").replace("{text}", text))["input_ids"])
    eos = tokenizer.eos_token_id
    if ids and ids[-1] == eos and len(ids) > 1:  # some tokenizers end every text with their end token
        ids.pop()
    if not ids:
        raise InputError(f"prompt text {text!r} has no tokens under template {template!r}: give a longer text")
    return ids


def encode_answer(tokenizer: Any, answer: str, template: str = "auto") -> list[int]:
    """The token ids of an answer as it follows :func:`encode_prompt`, end-of-text token included."""
    ids = list(tokenizer(_before_answer(tokenizer, template) + answer, add_special_tokens=False)["input_ids"])
    return [*ids, tokenizer.eos_token_id]


def read_answer(tokenizer: Any, completion: str, template: str = "auto") -> str:
    """The answer that a completion is: without the blank, if it has it, that :func:`encode_answer` puts before it."""
    return completion.removeprefix(_before_answer(tokenizer, template))


def _before_answer(tokenizer: Any, template: str) -> str:
    resolved = resolve_template(tokenizer, template)
    return "" if resolved == "chat" or resolved.endswith("{answer}") or resolved[-1:].isspace() else " "
