"""Where the randomness of a draw comes from: a counter-based generator, keyed by what the draw is."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def uniforms(seed: int, prompt_id: str, first: int, depth: int, size: int) -> NDArray[np.float64]:
    """Independent uniforms in [0, 1): number i decides token ``depth`` of draw ``first + i`` of one prompt.

    Philox keyed by a 128-bit hash of (seed, prompt id, first, depth): any shard can be computed alone and in any
    order, draws that share a prefix can be computed together, and the result is the same. Shape (size,).
    """
    name = f"{seed}|{first}|{depth}|{prompt_id}".encode()  # the id comes last, so that no two names are equal
    key = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).random(size)


def of_prefix(seed: int, prompt_id: str, first: int, tokens: Sequence[int]) -> np.random.Generator:
    """The randomness that splits the draws which begin with the new tokens ``tokens``, of the draws from ``first`` on.

    Keyed by (seed, prompt id, first, tokens) alone.
    """
    return _keyed(f"split|{seed}|{first}|{prompt_id}|", tokens)


def gumbels(seed: int, prompt_id: str, tokens: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Independent standard Gumbel numbers for the ``size`` next tokens after the new tokens ``tokens`` of one prompt.

    Keyed by (seed, prompt id, tokens) alone: the tree of perturbed prefixes does not depend on how much of it is looked
    at, so that a longer search goes on where a shorter one stopped.
    """
    u = _keyed(f"gumbel|{seed}|{prompt_id}|", tokens).random(size)
    return np.asarray(-np.log(-np.log(np.maximum(u, 2.0**-54))))


def seed_of(*names: object) -> int:
    """A seed below 2^48 of its own for what has these names: a hash of them, so that no two purposes share draws."""
    name = "|".join(map(str, names)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=6).digest(), "little")


def _keyed(name: str, tokens: Sequence[int] | NDArray[np.int64]) -> np.random.Generator:
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    digest.update(np.ascontiguousarray(tokens, dtype="<i8").tobytes())
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))
