"""What a run takes where it gives nothing: the settings of a named method's authors, or ours, the same for all methods.

Sources are repositories on GitHub and the commits that were read; docs/unlearning.md says what equals their code, and
what differs. Batches are those of one process: what they spread over devices stands in ``accumulation``. Where they
train by DeepSpeed and its file of settings has no ``gradient_clipping`` (CL, GE, JU, NP, PC, SI, SN), nothing clips,
whatever ``max_grad_norm`` their script or its default has: DeepSpeed does its own clipping, and takes that value only
where its file says auto.
"""

import re
from typing import Any

CL = "sail-sg/closer-look-LLM-unlearning b622294"
GE = "tmlr-group/G-effect ef368ee"
JU = "nmndeep/JensUn-Unlearning 9d0cfd5"
LU = "kevinyaobytedance/llm_unlearn 647f309"
NP = "licong-lin/negative-preference-optimization 1207bbe"
OU = "locuslab/open-unlearning d3d7cf9"
PC = "yascho/partial-model-collapse-unlearning 18d74b8"
SI = "tmlr-group/SatImp 51314c0"
SN = "OPTML-Group/Unlearn-Simple f1a355d"
WM = "centerforaisafety/wmdp f2d346f, as the history of sheepjun0330/wmdp-main has it"

OURS: dict[str, Any] = {
    "epochs": 5, "max_steps": None, "batch_size": 16, "accumulation": 1, "learning_rate": 1e-5,
    "schedule": "linear", "warmup": 0.0, "weight_decay": 0.01, "max_grad_norm": 1.0, "forget_weight": 1.0,
    "retain_weight": 1.0, "reduction": "rows", "pad_to": 0, "entropy_mask": "answer", "me_mask": "text",
    "kl_mask": "text", "beta": None, "gamma": None, "me_direction": None, "mismatch_weight": None,
    "undial_strength": None, "wga_power": None, "saturation": None, "importance": None, "ce_u_skip": 0,
    "rmu_depth": 1 / 3, "rmu_part": "layer", "rmu_scale": None, "jensun_target": "No idea", "pmc_samples": 8,
    "pmc_temperature": 1.25, "pmc_top_p": 0.95, "max_tokens": 64,
}  # fmt: skip
"""The settings of every method with ``like`` ours, of pairs of terms, and of methods that packages bring."""

EPOCH = "epoch"
"""As the warm-up: one epoch, whatever the number of epochs is."""


def _theirs(batch: int, accumulation: int, epochs: int, rate: float, **others: Any) -> dict[str, Any]:
    """Settings as most of them are: means over the tokens of a batch, one epoch of warm-up, gradients as they are."""
    trained = {"batch_size": batch, "accumulation": accumulation, "epochs": epochs, "learning_rate": rate}
    return {**trained, "warmup": EPOCH, "reduction": "tokens", "max_grad_norm": 0.0, **others}


def _open_unlearning(rate: float, **others: Any) -> dict[str, Any]:
    """Those of its experiments on TOFU, on one device without DeepSpeed: gradients are clipped."""
    return _theirs(16, 2, 10, rate, max_grad_norm=1.0, **others)


_PADDED = {"kl_mask": "all", "pad_to": 500}
_CL = _theirs(4, 8, 5, 1e-5)
_CL_PREFERENCE = _CL | {"beta": 0.1}
_NP = _theirs(4, 8, 10, 1e-5, beta=0.1)
_SN = _theirs(1, 32, 10, 1e-5, beta=2.5, gamma=0.0)
_SI = _theirs(2, 8, 5, 2e-5, weight_decay=0.0, saturation=5.0, importance=0.1)
_UNDIAL = _open_unlearning(1e-4, undial_strength=10.0)
_LLMU = {
    "batch_size": 2, "max_steps": 1000, "learning_rate": 2e-6, "max_grad_norm": 0.0, "forget_weight": 0.5,
    "mismatch_weight": 2.0,
}  # fmt: skip
_RMU = {
    "batch_size": 4, "max_steps": 150, "learning_rate": 5e-5, "schedule": "constant", "weight_decay": 0.0,
    "max_grad_norm": 0.0, "reduction": "tokens", "retain_weight": 1200.0, "rmu_scale": 6.5, "rmu_depth": 1 / 4,
    "rmu_part": "down_proj",
}  # fmt: skip
_CE_U = _open_unlearning(1e-5, ce_u_skip=1)

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "grad_ascent": (CL, _CL),
    "grad_diff": (CL, _CL),
    "grad_ascent_kl": (CL, _CL | _PADDED),
    "npo": (NP, _NP),
    "npo_gd": (NP, _NP),
    "npo_kl": (NP, _NP | _PADDED),
    "dpo_gd": (CL, _CL_PREFERENCE),
    "dpo_kl": (CL, _CL_PREFERENCE | _PADDED),
    "idk_gd": (CL, _CL),
    "idk_kl": (CL, _CL | _PADDED),
    "idk_ap": (CL, _CL_PREFERENCE),
    "me_gd": (CL, _CL | {"forget_weight": 0.1, "me_direction": "uniform", "me_mask": "all", "pad_to": 500}),
    "simnpo": (SN, _SN),
    "simnpo_gd": (SN, _SN | {"forget_weight": 0.1375}),
    "llmu": (LU, _LLMU),
    "rmu": (WM, _RMU),
    "undial": (OU, _UNDIAL),
    "undial_gd": (OU, _UNDIAL),
    "wga": (GE, _theirs(4, 4, 5, 1e-5, weight_decay=0.0, wga_power=5.0)),
    "wga_gd": (OU, _open_unlearning(1e-5, wga_power=1.0)),
    "satimp": (SI, _SI),
    "satimp_gd": (SI, _SI | {"retain_weight": 0.1}),
    "ce_u": (OU, _CE_U),
    "ce_u_gd": (OU, _CE_U),
    "jensun": (JU, _theirs(4, 8, 10, 8e-6)),
    "pmc": (PC, _theirs(16, 4, 40, 1e-5, retain_weight=1.5, pmc_samples=5, max_tokens=200)),
}
"""Method -> whose settings, and what of them is not as :data:`OURS`."""

ENTROPY = {"entropy_mask": "all", "pad_to": 256}
"""What the entropy optimisation of yascho/probabilistic-unlearning b4d2c1d adds to the method that it goes with."""

ALIASES = {
    "ga": "grad_ascent",
    "graddiff": "grad_diff",
    "ga_gd": "grad_diff",
    "ga_kl": "grad_ascent_kl",
    "ceu": "ce_u",
    "jensen_unlearning": "jensun",
}


def plain_name(name: str) -> str:
    """A name in small letters, its words joined by ``_``: ``NPO+GD`` is npo_gd."""
    return re.sub(r"[+\-_\s]+", "_", name.strip().lower())


def source_of(method: str, like: str) -> str | None:
    """Whose settings a method takes, or None where they are ours."""
    name = plain_name(method)
    name = ALIASES.get(name, name)
    return PUBLISHED[name][0] if like == "published" and name in PUBLISHED else None


def settings_of(method: str, like: str, *, entropy: bool = False, epochs: int | None = None) -> dict[str, Any]:
    """Every setting that depends on the method, as it is where a run gives none but ``epochs``.

    ``entropy``: whether the run weighs entropies. Where epochs are given, no number of steps goes before them.
    """
    found, name = dict(OURS), plain_name(method)
    if source_of(method, like) is not None:
        found |= PUBLISHED[ALIASES.get(name, name)][1]
        if entropy:
            found |= ENTROPY | {"pad_to": max(found["pad_to"], ENTROPY["pad_to"])}
    if epochs is not None:
        found |= {"epochs": epochs, "max_steps": None}
    if found["warmup"] == EPOCH:
        found["warmup"] = 1 / found["epochs"] if isinstance(found["epochs"], int) and found["epochs"] > 1 else 0.0
    return found
