"""Choosing the threshold of the adaptive temperature on prompts that should go on being answered in many ways."""

import math
from typing import Any

import numpy as np

from leakbound.auditing.drawing import Prompts, open_prompts
from leakbound.errors import InputError
from leakbound.models.base import check_asked
from leakbound.models.opening import Loading, open_model
from leakbound.records import SamplingParams
from leakbound.results.calibration import Calibration


def calibrate(
    model: Any,
    prompts: Prompts,
    *,
    share: float = 0.05,
    params: SamplingParams | None = None,
    tokenizer: Any = None,
    template: str = "auto",
    loading: Loading | None = None,
) -> Calibration:
    """The threshold for ``adaptive_temperature`` that leaves all but ``share`` of these (retain) prompts sampled.

    ``model``: as for an audit, but it must tell its confidence (:meth:`HFModel.confidence`). ``share`` in [0, 1).
    Raises InputError where no threshold up to 1 does it: then the model is certain of too many of these answers.
    """
    if not 0 <= share < 1:
        raise InputError(f"share is {share!r}: give the share of the prompts that may go greedy, a number in [0, 1)")
    params = params or SamplingParams()
    if params.adaptive_mode != "prompt":
        mode = f"adaptive_mode is {params.adaptive_mode!r}"
        raise InputError(f"{mode}: only the threshold for prompts can be calibrated; give 'prompt'")
    (loading or Loading()).check_here("calibrate")
    questions = open_prompts(prompts)
    opened = open_model(model, tokenizer=tokenizer, template=template, loading=loading)
    if not hasattr(opened, "confidence"):
        raise InputError(f"model is a {type(opened).__name__}, which does not tell its confidence: give an HFModel")
    check_asked(opened, questions, params)
    sure = np.sort(opened.confidence(questions, params))[::-1]
    allowed = math.floor(share * len(sure))
    highest = float(sure[allowed])  # the first that must stay sampled
    threshold = round(highest + 1e-6, 6)  # confidences are rounded to 6 decimals
    if threshold > 1:
        raise InputError(
            f"share is {share!r}: the model is certain of {int((sure >= 1 - 1e-6).sum())} of {len(sure)} answers, so "
            "that no threshold up to 1 leaves enough of them sampled; allow a larger share"
        )
    return Calibration(threshold, share, int((sure >= threshold).sum()), len(sure))
