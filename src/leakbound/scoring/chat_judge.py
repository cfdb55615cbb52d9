"""A chat model of an OpenAI-compatible server as a judge, described by a file that the scorer's name pins."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Literal

from leakbound.errors import InputError
from leakbound.runs.files import read_yaml
from leakbound.scoring.judge import RUBRIC, Judge, fill_rubric
from leakbound.server import Server

_LAW = ("model", "rubric", "temperature", "max_tokens", "unscored")


@dataclass(frozen=True)
class ChatJudge:
    """``(prompt, completion, target) -> reply`` of a chat model; retries are the client library's.

    A reply that was cut at ``max_tokens`` or filtered is no verdict. The key is read from the environment variable
    ``api_key_env``; a local server needs none.
    """

    model: str
    """The model's id at the server."""
    base_url: str = "https://api.openai.com/v1"
    rubric: str = RUBRIC
    """A text with {prompt}, {completion} and {target}, filled with JSON strings."""
    temperature: float = 0.0
    max_tokens: int = 1024
    concurrency: int = 8
    unscored: Literal["raise", "leak"] = "raise"
    cache: str = ""
    """The file of verdicts; by default beside the judge's own file."""
    timeout: float = 120.0
    retries: int = 5
    api_key_env: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        for field in fields(self):
            value, wanted = getattr(self, field.name), type(field.default) if field.name != "model" else str
            if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else wanted):
                raise InputError(f"{field.name} of the judge is {value!r}: give a {wanted.__name__}")
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature of the judge is {self.temperature!r}: give a number >= 0")
        missing = [name for name in ("{completion}", "{target}") if name not in self.rubric]
        if missing:
            raise InputError(f"rubric of the judge lacks {' and '.join(missing)}: it would not see what it judges")
        if not self.model.strip():
            raise InputError("model of the judge is empty: give the model's id at the server")

    @property
    def fingerprint(self) -> str:
        """12 hex digits of what the verdicts depend on: model, rubric, temperature, max_tokens, unscored."""
        law = {k: v for k, v in asdict(self).items() if k in _LAW}
        return hashlib.sha256(json.dumps(law, sort_keys=True).encode()).hexdigest()[:12]

    @cached_property
    def server(self) -> Server:
        """Where the judge is asked."""
        return Server(self.base_url, self.api_key_env, self.timeout, self.retries)

    def ready(self) -> None:
        """Whether there is a client. Raises ModelError with the remedy."""
        _ = self.server.client

    def __call__(self, prompt: str, completion: str, target: str) -> str:
        """What the model replies; "" where the reply is not whole."""
        question = fill_rubric(self.rubric, prompt, completion, target)
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        try:
            choice = self.server.ask(f"judge {self.model!r}", "/chat/completions", body)["choices"][0]
            said = choice["message"]["content"] if choice["finish_reason"] == "stop" else ""
        except (KeyError, IndexError, TypeError):
            return ""
        return said if isinstance(said, str) else ""


def load_judge(name: str) -> Judge:
    """The judge that ``FILE#FINGERPRINT`` names: a YAML or JSON file with the fields of :class:`ChatJudge`.

    The fingerprint fixes model and rubric together with the statement. InputError if it is missing, with the right one.
    """
    file, _, fingerprint = name.partition("#")
    path = Path(file).expanduser()
    try:
        given = read_yaml(path)
    except FileNotFoundError as error:
        raise InputError(f"scorer 'judge:{name}': there is no file {file!r}") from error
    except InputError as error:
        raise InputError(f"scorer 'judge:{name}': {error}") from error
    known = [field.name for field in fields(ChatJudge)]
    if "model" not in given or set(given) - set(known):
        raise InputError(
            f"scorer 'judge:{name}': {file} must be a mapping with model and, if wanted, {', '.join(known[1:])}"
        )
    chat = ChatJudge(**given)
    if fingerprint != chat.fingerprint:
        what = "has no fingerprint" if not fingerprint else "names another judge than the file holds now"
        raise InputError(
            f"scorer 'judge:{name}' {what}: write judge:{file}#{chat.fingerprint}, which fixes model and rubric "
            "together with the statement"
        )
    cache = Path(chat.cache).expanduser() if chat.cache else path.with_suffix(".verdicts.jsonl")
    return Judge(chat, f"{chat.model}#{chat.fingerprint}", cache, chat.concurrency, chat.unscored)
