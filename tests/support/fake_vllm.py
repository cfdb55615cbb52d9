"""A package with vLLM's interface, as strict as vLLM: its engine is transformers, one token at a time.

``install(monkeypatch)`` puts it in vllm's place. What vLLM does not know, or takes in another
form, raises.
"""

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@dataclass(kw_only=True)
class SamplingParams:
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    logit_bias: dict | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None

    def __post_init__(self):
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature must be in [0, 2], got {self.temperature}.")
        if self.stop and not self.detokenize:
            raise ValueError("stop strings are only supported when detokenize is True.")
        if not isinstance(self.top_k, int) or self.top_k < -1 or not 0 < self.top_p <= 1 or self.max_tokens < 1:
            raise ValueError("a parameter is out of its range")


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int] | None
    prompt_logprobs: list | None
    outputs: list
    finished: bool


@dataclass
class LLM:
    model: str
    dtype: str = field(kw_only=True, default="auto")
    generation_config: str = field(kw_only=True, default="auto")
    logprobs_mode: str = field(kw_only=True, default="raw_logprobs")
    load_format: str = field(kw_only=True, default="auto")
    enable_prefix_caching: bool | None = field(kw_only=True, default=None)
    enable_chunked_prefill: bool | None = field(kw_only=True, default=None)
    seed: int = field(kw_only=True, default=0)
    trust_remote_code: bool = field(kw_only=True, default=False)
    disable_log_stats: bool = field(kw_only=True, default=False)
    enable_lora: bool = field(kw_only=True, default=False)
    max_loras: int = field(kw_only=True, default=1)
    max_lora_rank: int = field(kw_only=True, default=16)
    tensor_parallel_size: int = field(kw_only=True, default=1)
    max_model_len: int | None = field(kw_only=True, default=None)
    enforce_eager: bool = field(kw_only=True, default=False)

    def __post_init__(self):
        self.weights = AutoModelForCausalLM.from_pretrained(self.model, dtype=getattr(torch, self.dtype)).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.model)
        most = self.max_model_len or self.weights.config.max_position_embeddings
        config = SimpleNamespace(
            dtype=getattr(torch, self.dtype),
            generation_config=self.generation_config,
            logprobs_mode=self.logprobs_mode,
            max_model_len=most,
        )
        self.llm_engine = SimpleNamespace(vllm_config=SimpleNamespace(model_config=config))
        self.calls, self.law = [], {}

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        assert isinstance(prompts, list)
        assert isinstance(sampling_params, list)
        if len(prompts) != len(sampling_params):
            raise ValueError("The lengths of prompts and sampling_params must be the same.")
        if lora_request is not None and not self.enable_lora:
            raise ValueError(f"Got lora_request {lora_request} but LoRA is not enabled!")
        self.calls.append((prompts, sampling_params, lora_request))
        return [
            RequestOutput(str(i), None, list(prompt["prompt_token_ids"]), None, [self.answer(prompt, params)], True)
            for i, (prompt, params) in enumerate(zip(prompts, sampling_params, strict=True))
        ]

    def logits(self, tokens, params):
        """The last token's, divided by the temperature and filtered by top-k: what the draws come from."""
        key = tuple(tokens)
        if key not in self.law:
            with torch.inference_mode():
                self.law[key] = self.weights(torch.tensor([tokens])).logits[0, -1].float()
        logits = self.law[key] / (params.temperature or 1.0)
        if 0 < params.top_k < len(logits):
            logits = logits.masked_fill(logits < logits.topk(params.top_k).values[-1], -torch.inf)
        return logits

    def answer(self, prompt, params):
        assert set(prompt) == {"prompt_token_ids"}
        generator = torch.Generator().manual_seed(params.seed)
        tokens, steps, text, reason, stop = [], [], "", None, None
        while reason is None:
            logprobs = self.logits([*prompt["prompt_token_ids"], *tokens], params).log_softmax(-1)
            noise = torch.empty_like(logprobs).exponential_(generator=generator)
            token = int((logprobs - noise.log()).argmax() if params.temperature else logprobs.argmax())
            tokens.append(token)
            steps.append({token: SimpleNamespace(logprob=float(logprobs[token]), rank=1, decoded_token=None)})
            text = self.tokenizer.decode(tokens, skip_special_tokens=True) if params.detokenize else ""
            cut = next((one for one in params.stop or () if one in text), None)
            if token == self.tokenizer.eos_token_id and not params.ignore_eos:
                reason = "stop"
            elif token in (params.stop_token_ids or ()):
                reason, stop = "stop", token
            elif cut is not None:
                reason, stop, text = "stop", cut, text[: text.index(cut)]
            elif len(tokens) == params.max_tokens:
                reason = "length"
        steps = steps if params.logprobs is not None else None
        return CompletionOutput(0, text, tokens, 0.0, steps, reason, stop)


def install(monkeypatch, llm=LLM):
    """Put this package in vllm's place."""
    package, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    package.LLM, package.SamplingParams, package.__version__, request.LoRARequest = (
        llm,
        SamplingParams,
        "0",
        LoRARequest,
    )
    for module in (package, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
