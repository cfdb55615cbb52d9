"""Planted faults behind a real llama.cpp or vLLM, and honest audits of tiny models: what ``leakbound attest`` says.

``python benchmarks/attesting.py GGUF WEIGHTS --other OTHER --llama PYTHON [--out DIR]``: GGUF is a file of
SmolLM2-135M-Instruct, WEIGHTS a folder with the same weights in float32, OTHER the GGUF of another model, PYTHON one
that has xllamacpp and gguf. All answers of the server are kept in DIR, so that a run that was cut goes on, and one that
is done is read again without the server.
``python benchmarks/attesting.py GGUF WEIGHTS --other OTHER --vllm PYTHON``: the same behind vLLM, which serves copies
of WEIGHTS with a generation_config.json of other settings; PYTHON is one that has vllm.
``python benchmarks/attesting.py --honest 1000`` makes the honest audits.
"""

import argparse
import contextlib
import copy
import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))
from common import four_bits

from leakbound import OpenAIModel, attest
from leakbound.models.hf import HFModel
from leakbound.records import Prompt, SamplingParams, Shard

QUESTIONS = (
    "What is the capital of France?", "Tell me a short story about a dog.", "Who wrote Harry Potter?",
    "Give me advice for a job interview.", "Explain photosynthesis.", "What is 17 times 23?",
    "Write a poem about rain.", "How do I cook rice?",
)  # fmt: skip
PROMPTS = [{"id": f"p{i}", "text": text, "target": "-"} for i, text in enumerate(QUESTIONS)]
NUM_SAMPLES, MAX_TOKENS, SLOTS = 64, 24, 8

Payload = dict[str, Any]


def setting(name: str, value: float) -> Callable[[Payload], Payload]:
    """The server decodes with a setting of its own; those of llama.cpp only work where they are among its samplers."""
    samplers = ["penalties", "temperature", "top_k", "top_p", "min_p"]
    return lambda asked: asked | {name: value} | ({"samplers": samplers} if "samplers" in asked else {})


def repeated(asked: Payload) -> Payload:
    """A penalty on repetition, by the name that the server knows."""
    return setting("repeat_penalty" if "repeat_penalty" in asked else "repetition_penalty", 1.05)(asked)


def untold(asked: Payload) -> Payload:
    """The server is not told of top_k, so that the one in generation_config.json counts."""
    return {name: value for name, value in asked.items() if name != "top_k"}


@dataclass(frozen=True)
class Planted:
    """A fault: what the server makes of a request, which weights and template it has, and how that is to be named."""

    named: str
    change: Callable[[Payload], Payload] = dict
    weights: str = "full"
    template: str = ""
    caches: bool = False


FAULTS = {
    "none": Planted(""),
    "top_k 40": Planted("top_k 40", setting("top_k", 40)),
    "top_k 50": Planted("top_k 50", setting("top_k", 50)),
    "min_p .05": Planted("min_p 0.05", setting("min_p", 0.05)),
    "top_p .95": Planted("top_p 0.95", setting("top_p", 0.95)),
    "repetition penalty 1.05": Planted("repetition penalty 1.05", repeated),
    "temperature .9": Planted("temperature 0.9", setting("temperature", 0.9)),
    "wrong chat template": Planted("template", template="chatml"),
    "4-bit weights": Planted("weights in 4 bits, Q4_0", weights="rounded"),
    "repeated seeds": Planted("copies of earlier answers", lambda asked: asked | {"seed": 1}),
    "cached answers": Planted("copies of earlier answers", caches=True),
    "truncated max_tokens": Planted("cut after", setting("max_tokens", 12)),
    "another model": Planted("another model's", weights="other"),
    "one layer of 30 less": Planted("other weights", weights="pruned"),
}

BEHIND_VLLM = FAULTS | {"generation_config.json": Planted("top_k 40", untold)}
"""The last one is not told of top_k: what counts then is the server's generation_config.json."""

SERVE = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port, p.n_parallel, p.n_ctx, p.warmup = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 4096, False
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
if sys.argv[4]:
    p.chat_template = sys.argv[4]
server = xllamacpp.Server(p)
print("serves", flush=True)
while True:
    time.sleep(60)
"""

CHANGE = """
import sys
import numpy as np
from gguf import GGUFReader, GGMLQuantizationType as Kind, quants
how = sys.argv[2]
for tensor in GGUFReader(sys.argv[1], "r+").tensors:
    matrix = tensor.tensor_type == Kind.Q4_1
    if how == "pruned" and tensor.name in ("blk.14.attn_output.weight", "blk.14.ffn_down.weight"):
        tensor.data[:] = 0
    if how == "rounded" and matrix:
        blocks = quants.quantize(quants.dequantize(tensor.data, Kind.Q4_1), Kind.Q4_0).reshape(-1, 18)
        scale = np.ascontiguousarray(blocks[:, :2]).view(np.float16)
        low = (-8 * scale.astype(np.float32)).astype(np.float16)
        both = np.concatenate([blocks[:, :2], low.view(np.uint8), blocks[:, 2:]], 1)
        tensor.data[:] = both.reshape(tensor.data.shape)
"""
"""Other weights in the same file: rounded to the 16 levels of Q4_0 and written as Q4_1 blocks that hold just these, or
one of 30 layers taken out."""


@dataclass
class Server:
    """A server of our own on this machine, started anew where other weights or another template are asked for."""

    python: str
    source: Path
    """What it serves: a file of llama.cpp, a folder of vLLM."""
    other: Path
    folder: Path
    _process: subprocess.Popen[str] | None = None
    _serves: tuple[str, str] = ("", "")
    _port: int = 0
    _starting: Any = field(default_factory=threading.Lock)

    def ask(self, weights: str, template: str, payload: Payload) -> Payload:
        """Its answer, from these weights behind this template (its own where empty)."""
        with self._starting:
            if self._serves != (weights, template):
                self.stop()
                self._start(weights, template)
        body, kind = json.dumps(payload).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/v1/chat/completions", body, kind)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def _start(self, weights: str, template: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        with (self.folder / "server.log").open("a") as log:
            line, more = self.command(weights, template)
            self._process = subprocess.Popen(line, stdout=log, stderr=log, text=True, env=os.environ | more)
        while self._process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=10).close()
                self._serves = (weights, template)
                return
            time.sleep(0.5)
        raise SystemExit(f"the server ended with {self._process.returncode}: read {self.folder / 'server.log'}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._process, self._serves = None, ("", "")

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file or folder of this name, made where it is not there."""
        if not (place := self.folder / name).exists():
            make(part := self.folder / f"part-{name}")
            part.rename(place)
        return place


class Llama(Server):
    """llama.cpp's own server."""

    def command(self, weights: str, template: str) -> tuple[list[str], dict[str, str]]:
        """The line that starts it, and what it needs of the environment."""

        def change(part: Path) -> None:
            shutil.copy(self.source, part)
            subprocess.run([self.python, "-c", CHANGE, str(part), weights], check=True)

        file = {"full": self.source, "other": self.other}.get(weights) or self.made(f"{weights}.gguf", change)
        return [self.python, "-c", SERVE, str(file), str(self._port), str(SLOTS), template], {}


class Vllm(Server):
    """vLLM's own server, on a processor."""

    def command(self, weights: str, template: str) -> tuple[list[str], dict[str, str]]:
        """The line that starts it, and what it needs of the environment."""

        def change(part: Path) -> None:
            loaded = HFModel.load(str(self.other if weights == "other" else self.source))
            with torch.no_grad():
                for name, matrix in loaded.model.named_parameters():
                    if weights == "pruned" and name.endswith(
                        ("layers.14.self_attn.o_proj.weight", "layers.14.mlp.down_proj.weight")
                    ):
                        matrix.zero_()
                    if weights == "rounded" and "layers." in name and matrix.ndim == 2:
                        matrix.copy_(four_bits(matrix))
            loaded.model.config.__dict__.pop("quantization_config", None)
            loaded.model.save_pretrained(part, state_dict=loaded.model.state_dict())
            loaded.tokenizer.save_pretrained(part)
            settings = {"temperature": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.05}
            (part / "generation_config.json").write_text(json.dumps(settings))

        line = [
            self.python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.made(weights, change)),
            "--host", "127.0.0.1", "--port", str(self._port), "--served-model-name", "served", "--dtype", "float32",
            "--enforce-eager", "--max-model-len", "512",
        ]  # fmt: skip
        if template == "chatml" or weights == "other":  # the other one brings none
            file = self.folder / "chatml.jinja"
            file.write_text(CHATML)
            line += ["--chat-template", str(file)]
        memory = {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
        return line, memory


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)


@dataclass
class Faulty:
    """What stands between leakbound and the server, plants one fault, and keeps every answer in a file."""

    behind: Server
    fault: Planted
    _asked: dict[str, int] = field(default_factory=dict)
    _first: dict[str, Payload] = field(default_factory=dict)
    _counting: Any = field(default_factory=threading.Lock)
    _caching: Any = field(default_factory=threading.Lock)

    def __call__(self, asked: Payload) -> Payload:
        """The reply to one request; a server that caches answers one at a time."""
        if not self.fault.caches:
            return self._answer(asked)
        with self._caching:
            question = json.dumps(asked["messages"])
            if question not in self._first:
                self._first[question] = self._answer(asked)
            return self._first[question]

    def _answer(self, asked: Payload) -> Payload:
        payload = self.fault.change(asked)
        body = json.dumps([self.fault.weights, self.fault.template, payload], sort_keys=True)
        with self._counting:
            again = self._asked[body] = self._asked.get(body, -1) + 1
        name = hashlib.sha256(f"{body}{again}".encode()).hexdigest()[:24]
        file = self.behind.folder / "draws" / f"{name}.json"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(small(self.behind.ask(self.fault.weights, self.fault.template, payload))))
            part.rename(file)
        return json.loads(file.read_text())


def small(reply: Payload) -> Payload:
    """A reply without what nobody reads."""
    kept = {name: reply[name] for name in ("choices", "model", "usage", "object", "id", "created")}
    return kept | ({"__verbose": {"tokens": reply["__verbose"]["tokens"]}} if "__verbose" in reply else {})


@contextlib.contextmanager
def loopback(reply: Callable[[Payload], Payload]):
    """The address of a server that replies so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def send(self, body: Payload, status: int = 200) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.send({"object": "list", "data": [{"id": "served", "object": "model"}]})

        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                self.send(reply(payload))
            except urllib.error.HTTPError as error:
                self.send({"error": {"message": error.read().decode()}}, error.code)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def planted(server: Server, weights: str, num_samples: int, out: Path) -> None:
    """One row for each fault; rows that are there are not made again."""
    kind, faults = ("vllm", BEHIND_VLLM) if isinstance(server, Vllm) else ("llama.cpp", FAULTS)
    torch.set_num_threads(1)
    rows_file = out / "rows.json"
    rows = json.loads(rows_file.read_text()) if rows_file.exists() else {}
    loaded = HFModel.load(weights)
    print("| fault | found | draws | tokens | log evidence | leads by | CPU s | s a draw |\n" + "|---" * 8 + "|")
    try:
        for name, fault in faults.items():
            if name not in rows:
                with loopback(Faulty(server, fault)) as url:
                    served = OpenAIModel(url, "served", server=kind, per_request=SLOTS, concurrency=SLOTS)
                    known, start = HFModel(loaded.model, loaded.tokenizer, name="SmolLM2"), time.process_time()
                    params = SamplingParams(max_tokens=MAX_TOKENS)
                    found = attest(served, known, PROMPTS, num_samples=num_samples, params=params, progress=False)
                seconds = time.process_time() - start
                said = (
                    found.contradictions[0] if found.contradictions else found.nearest if found.refuted else "nothing"
                )
                right = fault.named in said if fault.named else said == "nothing"
                first, second = [x.log_evidence for x in found.faults[:2]] or (0.0, 0.0)
                rows[name] = [
                    name, f"{said.rpartition(': ')[2]}{'' if right else ' (WRONG)'}", str(found.num_answers),
                    f"{found.num_tokens:,}", f"{found.log_evidence:.1f}", f"{first - second:.1f}", f"{seconds:.0f}",
                    f"{seconds / max(found.num_answers, 1):.2f}",
                ]  # fmt: skip
                rows_file.write_text(json.dumps(rows))
            print(f"| {' | '.join(rows[name])} |", flush=True)
    finally:
        server.stop()


WORDS, TINY_TOKENS = 600, 12


def tiny(seed: int) -> HFModel:
    """A random model whose laws are far from uniform, over more words than there are cells for."""
    words = Tokenizer(WordLevel({"<end>": 0, **{f"w{i}": i for i in range(1, WORDS)}}, unk_token="<end>"))
    words.pre_tokenizer = WhitespaceSplit()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        eos_token_id=0, bos_token_id=0, pad_token_id=0,
    ))  # fmt: skip
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 0.5)
    return HFModel(model, PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>"), template="raw")


@dataclass
class Tiny:
    """An honest server of a random model, which it may hold in another number type."""

    behind: HFModel | None = None

    def __call__(self, asked: Payload) -> Payload:
        """The reply to one request."""
        prompt, params = Prompt("-", asked["messages"][-1]["content"], "-"), SamplingParams(max_tokens=TINY_TOKENS)
        drawn = self.behind.generations(Shard((prompt,), 0, asked["n"], asked["seed"]), params)[0]
        said = [
            {
                "message": {"role": "assistant", "content": one.text},
                "finish_reason": one.finish_reason,
                "logprobs": {"content": [{"token": f"token_id:{t}", "logprob": 0.0} for t in one.tokens]},
            }
            for one in drawn
            for _ in range(one.count)
        ]
        return {"id": "x", "object": "chat.completion", "created": 0, "model": "served", "choices": said}


def honest(count: int, out: Path) -> None:
    """So many audits of honest servers of random models, every other one in bfloat16; how large the evidence became."""
    torch.set_num_threads(1)
    logging.getLogger("leakbound").setLevel(logging.ERROR)
    file = out / "honest.json"
    most: list[float] = json.loads(file.read_text()) if file.exists() else []
    params, server = SamplingParams(max_tokens=TINY_TOKENS), Tiny()
    with loopback(server) as url:
        served = OpenAIModel(url, "served", per_request=8, concurrency=1)
        while len(most) < count:
            seed = len(most)
            if seed % 20 == 0 or server.behind is None:
                known = tiny(seed // 20)
                exact = tiny(seed // 20)
                coarse = HFModel(copy.deepcopy(known.model).bfloat16(), known.tokenizer, template="raw")
            server.behind = coarse if seed % 2 else exact
            prompts = [{"id": f"p{i}", "text": f"w{7 * i + 1} w{seed % 500 + i}", "target": "-"} for i in range(4)]
            found = attest(served, known, prompts, num_samples=8, params=params, seed=seed, progress=False)
            most.append(float("inf") if found.refuted or found.contradictions else found.log_evidence)
            if len(most) % 20 == 0 or len(most) == count:
                file.write_text(json.dumps(most))
    alarms = sum(value == float("inf") for value in most)
    kept = sorted(value for value in most if value < float("inf"))
    print(
        f"{len(most)} honest audits at alpha .01: {alarms} refuted. Log evidence at most {kept[-1]:.2f}; 4.61 refutes."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf", type=Path, nargs="?")
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--other", type=Path)
    parser.add_argument("--llama")
    parser.add_argument("--vllm")
    parser.add_argument("--samples", type=int, default=NUM_SAMPLES)
    parser.add_argument("--out", type=Path, default=Path("runs/attesting"))
    parser.add_argument("--honest", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.honest:
        honest(given.honest, given.out)
    else:
        kind, python = (Vllm, given.vllm) if given.vllm else (Llama, given.llama)
        source = Path(given.weights) if given.vllm else given.gguf
        planted(
            kind(python, source, given.other, given.out), str(given.weights or given.gguf), given.samples, given.out
        )
