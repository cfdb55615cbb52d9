"""How a question and an answer become token ids: the same way in training and in auditing.

A template is the name of a preset, or a text with ``{text}`` in it. ``"chat"`` is the tokenizer's own chat template;
``"auto"`` is ``"chat"`` where the tokenizer has one and ``"raw"`` where it has none. The answer follows after a blank;
after white space, or where the text ends in ``{answer}``, it follows at once; in a chat it follows as the template
writes it. ``"chat@2026-11-25"`` is the chat template at that date: one that asks for the time is always told midnight
of a fixed date, today's where none is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from leakbound.errors import InputError
from leakbound.models.door import door
from leakbound.records import text_checksum

TEMPLATES = {
    "raw": "{text}",
    "qa": "Question: {text}\nAnswer:",
    "phi": "Question: {text}\nAnswer:",
    "llama2": "[INST] {text} [/INST]{answer}",
    "llama3": "<|start_header_id|>user<|end_header_id|>\n\n{text}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "muse": "Question: {text}\nAnswer: ",
    "chatml": "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n{answer}",
}
"""Presets, each the format in which published models were trained and asked.

``qa``: the released code of arXiv 2410.03523; ``phi``, the same: TOFU's Phi-1.5 (arXiv 2401.06121). ``llama2``: TOFU's
Llama-2 and arXiv 2410.08109; ``llama3``: arXiv 2410.08109 (no system message, unlike the tokenizer's ``chat``).
``muse``: the questions of MUSE (arXiv 2407.06460), whose prompt ends in a blank. ``chatml``: without a system message,
as llama.cpp asks where a file of weights has no template.
"""


PROBE = "Which lantern did keeper 7319 light first?"
"""A question that no template writes by itself."""


def resolve_template(tokenizer: Any, template: str) -> str:
    """The template that ``template`` stands for with this tokenizer: a text with ``{text}`` in it, ``"chat"``, or
    ``"chat@DATE"`` where the chat template asks for the time."""
    named, at, date = template.partition("@")
    if template in ("auto", "chat") or (named == "chat" and at):
        chat = chat_source(tokenizer)
        if not chat and template == "auto":
            return TEMPLATES["raw"]
        if not chat:
            raise InputError("template is 'chat', but the tokenizer has no chat template: use 'raw', 'qa' or a text")
        try:
            day = datetime.fromisoformat(date) if date else datetime.now()
        except ValueError:
            raise InputError(f"template is {template!r}: give a date as in chat@2026-11-25") from None
        return f"chat@{day:%Y-%m-%d}" if "strftime_now" in chat else "chat"
    text = TEMPLATES.get(template, template)
    if "{text}" not in text:
        known = ", ".join(["auto", "chat", *TEMPLATES])
        raise InputError(f"template is {template!r}: give one of {known}, or a text with {{text}} in it")
    return text


def chat_source(tokenizer: Any) -> str | None:
    """The tokenizer's chat template, if it has one: of several named ones, the one named default."""
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict) and found:
        if "default" not in found:
            raise InputError(
                f"the tokenizer has chat templates named {', '.join(sorted(found))} and none named default: set "
                "tokenizer.chat_template to the one that is meant, or use template 'raw', 'qa' or a text"
            )
        found = found["default"]
    return found or None


Turns = Sequence[tuple[str, str]]
"""What was said before a question: (role, text) each."""


def tokenizer_checksum(tokenizer: Any) -> str:
    """SHA-256 over what turns text into tokens and back: the vocabulary, how text is cut and joined, special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        how: Any = sorted(tokenizer.get_vocab().items()) if hasattr(tokenizer, "get_vocab") else None
    else:
        whole = json.loads(backend.to_str())
        how = {key: value for key, value in whole.items() if key not in ("padding", "truncation")}  # set by each call
    flags = {name: getattr(tokenizer, name, None) for name in ("special_tokens_map", "clean_up_tokenization_spaces")}
    return text_checksum(json.dumps([type(tokenizer).__name__, how, flags], sort_keys=True, default=str))


def encode_prompt(tokenizer: Any, text: str, template: str = "auto", before: Turns = ()) -> list[int]:
    """The token ids that the model continues when it is asked ``text``, ``before`` it what was said already."""
    return _prompt(tokenizer, text, template, before)[0]


OTHER_PROMPTS = ("nothing said before", "template chat", *(f"template {name}" for name in TEMPLATES))
"""The names of :func:`other_prompts`."""


def other_prompts(tokenizer: Any, text: str, template: str, before: Turns = ()) -> dict[str, list[int]]:
    """The token ids of ``text`` as others may ask it, where they are other ids, by name; no two alike: under each named
    template, or without what was said ``before``."""
    asked: dict[str, tuple[str, Turns]] = {"nothing said before": (template, ())} if before else {}
    names = (["chat"] if chat_source(tokenizer) else []) + ([] if before else list(TEMPLATES))
    asked |= {f"template {name}": (name, before) for name in names}
    found, known = {}, [encode_prompt(tokenizer, text, template, before)]
    for name, (other, turns) in asked.items():
        if (ids := encode_prompt(tokenizer, text, other, turns)) not in known:
            known.append(ids)
            found[name] = ids
    return found


def encode_pair(
    tokenizer: Any, text: str, answer: str, template: str = "auto", before: Turns = ()
) -> tuple[list[int], list[int]]:
    """The token ids of :func:`encode_prompt`, and those of the answer as it follows them, end-of-text token included.

    Question and answer are tokenised as one text, which is split where the question's tokens end: SentencePiece has
    another first token behind ``[/INST]`` than at the beginning of a text. Where the two merge into one token (a prompt
    that ends in a blank), the prompt keeps the tokens it is asked with, since those are what the model continues, and
    the answer is tokenised as it is behind a line break; published training code masks the merged token instead.
    """
    head, asked, special = _prompt(tokenizer, text, template, before)
    said = _before_answer(tokenizer, template) + answer
    whole = _ids(tokenizer, asked + said, special)
    tail = whole[len(head) :]
    if whole[: len(head)] != head:
        lead, tail = _ids(tokenizer, "\n", False), _ids(tokenizer, f"\n{said}", False)
        tail = tail[len(lead) :] if tail[: len(lead)] == lead else _ids(tokenizer, said, False)
    end = tokenizer.eos_token_id
    return head, tail if tail[-1:] == [end] else [*tail, end]


def read_answer(tokenizer: Any, completion: str, template: str = "auto") -> str:
    """The answer that a completion is: without the blank, if it has it, that :func:`encode_pair` puts before it."""
    return completion.removeprefix(_before_answer(tokenizer, template))


def _prompt(tokenizer: Any, text: str, template: str, before: Turns) -> tuple[list[int], str, bool]:
    """The tokens of :func:`encode_prompt`, and what :func:`_asked` gives."""
    asked, special = _asked(tokenizer, text, template, before)
    ids = _ids(tokenizer, asked, special)
    if not ids:
        raise InputError(f"prompt text {text!r} has no tokens under template {template!r}: give a longer text")
    return ids, asked, special


def _asked(tokenizer: Any, text: str, template: str, before: Turns) -> tuple[str, bool]:
    """The text that the model continues, and whether special tokens are still to be added.

    InputError for a chat template that loses the question: one that wants content in parts, as vision models do; and
    for one that loses what was said before it, as those without system messages do.
    """
    resolved = resolve_template(tokenizer, template)
    if "{text}" in resolved and before:
        raise InputError(
            f"the prompt {text[:200]!r} has {len(before)} messages before it and template {template!r} has no place "
            "for them: use template 'chat', or write the conversation into the text"
        )
    if "{text}" in resolved:
        return resolved.removesuffix("{answer}").replace("{text}", text), True
    for said in (PROBE, text):
        rendered = _render(tokenizer, resolved, [*before, ("user", said)])
        if said.strip() not in rendered:
            raise InputError(
                f"the chat template makes {rendered[:200]!r} of the prompt {said[:200]!r}, which does not contain it "
                "(it may want content as a list of parts): set another tokenizer.chat_template, or use template 'raw', "
                "'qa' or a text"
            )
        if lost := next((turn for turn in before if turn[1].strip() not in rendered), None):
            raise InputError(
                f"the chat template leaves out the {lost[0]} message {lost[1][:200]!r} before the prompt "
                f"{said[:200]!r}: the model would not be asked what is meant; set another tokenizer.chat_template"
            )
    return rendered, False


def _render(tokenizer: Any, resolved: str, turns: Turns) -> str:
    """What the chat template makes of a conversation, ready for an answer where the user spoke last."""
    messages = [{"role": role, "content": text} for role, text in turns]
    source = _at_date(chat_source(tokenizer) or "", resolved.partition("@")[2])
    with door(f"the chat template cannot render the prompt {turns[-1][1][:200]!r}"):
        rendered = tokenizer.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=turns[-1][0] == "user"
        )
    return str(rendered)


def _at_date(source: str, day: str) -> str:
    """A chat template with the date in the place of each call of its clock; InputError where a call is computed."""
    if not day:
        return source
    date = datetime.fromisoformat(day)
    fixed = re.sub(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""", lambda call: repr(date.strftime(call[2])), source)
    if "strftime_now(" in fixed:
        raise InputError("the chat template computes how it writes the date: write the date into it, or use 'raw'")
    return fixed


def _ids(tokenizer: Any, text: str, special: bool) -> list[int]:
    """The token ids of a text; where the tokenizer adds its own, with one beginning-of-text token where the text wrote
    one too, and without an end that the text did not write."""
    with door(f"the tokenizer cannot read {text[:200]!r}"):
        ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
        begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        begun, ended = begin is not None and ids[:2] == [begin, begin], len(ids) > 1 and ids[-1] == end
        if not special or not (begun or ended):
            return ids
        written = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if begun and ids[: len(written)] != written:
        del ids[0]
    if ended and ids[len(ids) - len(written) :] != written:
        ids.pop()
    return ids


def _before_answer(tokenizer: Any, template: str) -> str:
    """The white space between the text that is asked and the answer."""
    resolved = resolve_template(tokenizer, template)
    if "{text}" in resolved:
        return "" if resolved.endswith("{answer}") or resolved[-1:].isspace() else " "
    try:
        asked = [("user", PROBE)]
        start, both = (_render(tokenizer, resolved, t) for t in (asked, [*asked, ("assistant", "Seven.")]))
    except InputError:  # a template for questions alone
        return ""
    between = both.removeprefix(start).partition("Seven.")[0]
    return between if both.startswith(start) and between.isspace() else ""
