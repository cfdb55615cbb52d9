"""What a model learned of single examples: counterfactual memorization, difficulty, learning speed.

From models trained on known subsets. The definitions are ours where arXiv 2411.04388 leaves them open (its body could
not be read); counterfactual memorization is that of Zhang et al. (arXiv 2112.12938) with log-likelihood as the measure.
"""

import numpy as np
import numpy.typing as npt

from leakbound.bounds.gate import Floats, as_numbers, check_alpha, check_whole
from leakbound.errors import InputError

Flags = npt.NDArray[np.bool_]


def draw_subsets(num_models: int, num_examples: int, *, seed: int) -> Flags:
    """Which example each model is trained on, (num_models, num_examples): half of them, each in half of the models.

    Models 2j and 2j + 1 get the two halves of one random order, so that every example is in exactly one of the two, and
    the subsets of the first models do not change when more models are asked for. ``num_examples`` is even.
    """
    check_whole("num_models", num_models, 1)
    check_whole("seed", seed)
    if check_whole("num_examples", num_examples, 2) % 2:
        raise InputError(f"num_examples is {num_examples}: give an even number, so that there are two halves")
    member = np.zeros((num_models, num_examples), dtype=bool)
    for i in range(num_models):
        order = np.random.default_rng([seed, i // 2]).permutation(num_examples)
        member[i, order[: num_examples // 2] if i % 2 == 0 else order[num_examples // 2 :]] = True
    return member


def counterfactual_memorization(logps: npt.ArrayLike, member: npt.ArrayLike) -> Floats:
    """mean log p(x) over models trained with x minus that over models trained without it; (N,), in the unit of logps.

    ``logps`` (M, N): log-likelihood of N examples under M models (sum over tokens, or per token); ``member`` (M, N):
    whether the model was trained on the example.

    :raises InputError: an example is in all models or in none: nothing can be compared.

    >>> counterfactual_memorization([[-1.0], [-9.0]], [[True], [False]]).tolist()
    [8.0]
    """
    values, inside = _check(logps, member, least=1)
    count = inside.sum(axis=0)
    with_it = np.where(inside, values, 0.0).sum(axis=0) / count
    return np.asarray(with_it - np.where(inside, 0.0, values).sum(axis=0) / (len(inside) - count))


def memorization_interval(
    logps: npt.ArrayLike, member: npt.ArrayLike, *, alpha: float, resamples: int = 1000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Bootstrap limits of :func:`counterfactual_memorization`, one example at a time; two arrays (N,), no guarantee.

    Models are resampled within those with and those without the example. With few models these limits are too close.

    :raises InputError: an example has fewer than two models on either side.
    """
    alpha = check_alpha(alpha)
    check_whole("resamples", resamples, 1)
    check_whole("seed", seed)
    values, inside = _check(logps, member, least=2)
    rng = np.random.default_rng(seed)
    low, high = np.empty(values.shape[1]), np.empty(values.shape[1])
    for i, chosen in enumerate(inside.T):
        means = [
            group[rng.integers(len(group), size=(resamples, len(group)))].mean(axis=1)
            for group in (values[chosen, i], values[~chosen, i])
        ]
        low[i], high[i] = np.quantile(means[0] - means[1], [alpha / 2, 1 - alpha / 2])
    return low, high


def difficulty(losses: npt.ArrayLike, member: npt.ArrayLike) -> Floats:
    """The mean loss of each example under models that never saw it; (N,), in the unit of ``losses`` (M, N)."""
    values, inside = _check(losses, member, least=0)
    if inside.all(axis=0).any():
        raise InputError("member: an example is in every model: give at least one model without it")
    return np.asarray(np.where(inside, 0.0, values).sum(axis=0) / (~inside).sum(axis=0))


def learning_speed(reproduced: npt.ArrayLike) -> Floats:
    """The first epoch, counted from 1, after which each example is reproduced; (N,), inf where it never is.

    ``reproduced`` (epochs, N): whether every token of the example was the model's likeliest after the epoch.

    >>> learning_speed([[False, False], [True, False]]).tolist()
    [2.0, inf]
    """
    flags = np.asarray(reproduced)
    if flags.ndim != 2 or flags.shape[0] == 0 or flags.dtype != bool:
        raise InputError(f"reproduced has shape {flags.shape} and type {flags.dtype}: give booleans (epochs, examples)")
    return np.where(flags.any(axis=0), flags.argmax(axis=0) + 1.0, np.inf)


def median_speed(speeds: npt.ArrayLike, member: npt.ArrayLike) -> Floats:
    """The median learning speed over the models that were trained on each example; (N,), inf where most never did.

    ``speeds`` (M, N): :func:`learning_speed` under each model, any number where the model was not trained on it.
    """
    values, inside = as_numbers("speeds", speeds), as_numbers("member", member) != 0
    if (
        values.ndim != 2
        or values.shape != inside.shape
        or np.isnan(values[inside]).any()
        or not inside.any(axis=0).all()
    ):
        raise InputError("speeds and member: give two arrays (models, examples), every example in some model, no NaN")
    return np.array([np.median(values[chosen, i]) for i, chosen in enumerate(inside.T)])


def upper_half(values: npt.ArrayLike) -> Flags:
    """Which of the values are in the larger half, by rank; equal values by their order. (N,), N // 2 are not."""
    numbers = as_numbers("values", values)
    if numbers.ndim != 1 or np.isnan(numbers).any():
        raise InputError(f"values has shape {numbers.shape}, or holds NaN: give one number for each example")
    order = np.argsort(numbers, kind="stable")
    flags = np.ones(len(order), dtype=bool)
    flags[order[: len(order) // 2]] = False
    return flags


def _check(logps: npt.ArrayLike, member: npt.ArrayLike, *, least: int) -> tuple[Floats, Flags]:
    values, rows = as_numbers("logps", logps), as_numbers("member", member)
    inside = np.asarray(member)
    if values.ndim != 2 or values.shape != rows.shape or inside.dtype != bool or values.size == 0:
        raise InputError(
            f"logps has shape {values.shape} and member {inside.shape} of {inside.dtype}: give numbers and booleans, "
            "both (models, examples)"
        )
    if not np.isfinite(values).all():
        raise InputError("logps holds a value that is not finite: give a log-likelihood for every model and example")
    count = inside.sum(axis=0)
    if least and (np.minimum(count, len(inside) - count) < least).any():
        few = int(np.flatnonzero(np.minimum(count, len(inside) - count) < least)[0])
        raise InputError(
            f"member: example {few} is in {count[few]} of {len(inside)} models: give at least {least} with it and "
            f"{least} without, that is more models"
        )
    return values, inside
