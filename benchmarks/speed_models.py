"""The models that the speed and certificate benchmarks run on, made once in a folder (default runs/speed).

At about 1M parameters: ``memorised`` is trained on the embedded biographies, ``unlearned`` forgets some of them by NPO,
``entropy-optimised`` does so with entropy terms (1 on forget, -0.25 on retain, arXiv 2410.03523), and ``high-entropy``
has random weights. At about 100M parameters nothing is trained: random weights, with the output layer scaled so that
the entropy of a completion is low (``sharpened``) or as it comes (``high-entropy``).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import torch

from leakbound.models.hf import HFModel
from leakbound.models.hf.loading import load_model, load_tokenizer
from leakbound.suites.biographies import biographies
from leakbound.unlearning import FinetuneConfig, UnlearnConfig, finetune, unlearn
from leakbound.unlearning.scratch import new_model

FOLDER = Path("runs/speed")
LEARN = {"from_scratch": "tiny", "epochs": 30, "learning_rate": 2e-3, "schedule": "cosine", "warmup": 0.1}
FORGET = {"method": "npo_gd", "like": "ours", "epochs": 12, "forget_weight": 0.1, "beta": 1.0, "learning_rate": 2e-4}
ENTROPY = {"entropy_forget": 1.0, "entropy_retain": -0.25}


def world():
    return biographies(num_people=60, seed=0)


def make(*, large: bool = False) -> dict[str, HFModel]:
    torch.set_num_threads(1)  # a shared machine: one thread for everybody, CPU seconds are compared
    files = world().write(FOLDER / "world")
    memorised, unlearned, entropy = (FOLDER / name for name in ("memorised", "unlearned", "entropy-optimised"))
    start = time.time()
    if not memorised.exists():
        finetune(FinetuneConfig(data=files["full"], out=memorised, seed=0, **LEARN))
    if large:  # they borrow its tokenizer
        return {"sharpened": _random_large(40.0), "high-entropy": _random_large(1.0)}
    for folder, more in ((unlearned, {}), (entropy, ENTROPY)):
        if not folder.exists():
            data = {"model": str(memorised), "forget": (files["forget"],), "retain": files["retain"]}
            unlearn(UnlearnConfig(out=folder, schedule="constant", seed=0, **data, **FORGET, **more))
    print(f"models in {FOLDER}: {time.time() - start:.0f} s", file=sys.stderr)
    tokenizer = load_tokenizer(str(memorised))
    found = {f.name: HFModel(load_model(str(f)), tokenizer, name=f.name) for f in (memorised, unlearned, entropy)}
    found["high-entropy"] = HFModel(new_model("tiny", tokenizer, seed=1, max_length=512), tokenizer, name="random")
    return found


def _random_large(sharpness: float) -> HFModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(str(FOLDER / "memorised"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=2304, num_hidden_layers=13,
        num_attention_heads=12, num_key_value_heads=12, max_position_embeddings=512, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(sharpness)
    return HFModel(model, tokenizer, name=f"random, output layer x {sharpness:g}")


@contextmanager
def measured():
    """CPU seconds, wall seconds and the peak of resident memory above the start, in MiB."""
    out = {"cpu": 0.0, "wall": 0.0, "mib": 0.0}
    page = 4096 / 2**20

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc: hand back what earlier runs have left free
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    base, stop = resident(), threading.Event()

    def look():
        while not stop.wait(0.02):
            out["mib"] = max(out["mib"], resident() - base)

    thread = threading.Thread(target=look)
    thread.start()
    cpu, wall = time.process_time(), time.time()
    try:
        yield out
    finally:
        out["cpu"], out["wall"] = time.process_time() - cpu, time.time() - wall
        stop.set()
        thread.join()


def draw_growth(out, sizes, seconds, mib, *, label: str, ylabel: str, title: str) -> None:
    """Time, beside what is linear in the draws, and peak memory."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    left.loglog(sizes, seconds, "o-", color="#0b7a75", label=label)
    left.loglog(sizes, [seconds[0] * n / sizes[0] for n in sizes], ":", color="grey", label="linear")
    left.set(xlabel="draws of one prompt", ylabel=ylabel, title=title)
    left.legend(frameon=False)
    right.semilogx(sizes, mib, "o-", color="#0b7a75")
    right.set(xlabel="draws of one prompt", ylabel="peak MiB above start", title="Memory", ylim=(0, max(*mib, 1) * 1.3))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None})
    print(f"picture: {out}")
