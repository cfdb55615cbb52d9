"""How many tokens a model reads, and where its positions change."""

from typing import Any

_LIMITS = ("max_position_embeddings", "max_seq_len")
"""What configurations call the number of positions; most other names are mapped to the first."""


def limit_of(config: Any) -> int | None:
    """The most tokens of a text, where the configuration says so."""
    return next((n for key in _LIMITS if isinstance(n := getattr(config, key, None), int) and n > 0), None)


def switch_of(config: Any, limit: int | None) -> int | None:
    """The length beyond which rotary positions are others for the whole text; None where it is never reached."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    for one in (rope, *rope.values()) if isinstance(rope, dict) else ():
        if isinstance(one, dict) and one.get("rope_type", one.get("type")) in ("longrope", "dynamic"):
            known = one.get("original_max_position_embeddings")
            known = known or getattr(config, "original_max_position_embeddings", None) or limit
            if known and (limit is None or known < limit):
                return int(known)
    return None
