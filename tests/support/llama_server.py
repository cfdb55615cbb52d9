"""A llama.cpp server as one was recorded (xllamacpp 2026.10): its defaults, its refusals, what it tells of itself."""

from chat_server import answer, chat_server, choice, uniform

DEFAULTS = {
    "seed": 4294967295, "temperature": 0.800000011920929, "dynatemp_range": 0.0, "top_k": 40,
    "top_p": 0.949999988079071, "min_p": 0.05000000074505806, "top_n_sigma": -1.0, "xtc_probability": 0.0,
    "typical_p": 1.0, "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "dry_multiplier": 0.0,
    "mirostat": 0, "max_tokens": -1, "min_keep": 0, "ignore_eos": False, "logit_bias": [], "grammar": "",
    "samplers": ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"],
}  # fmt: skip
PROPS = {"build_info": "b0-unknown", "model_ftype": "Q4_1", "total_slots": 8, "chat_template": "{{ messages }}"}


def llama_server(leak, slots=8, forced=None, seeds=None):
    """The server; a truncated law leaks never, the whole law with probability ``leak``. ``forced`` overrides requests.

    ``seeds`` collects (question, seed) of every choice that was given.
    """

    def reply(payload):
        n = payload.get("n", 1)
        if n > slots:
            return (400, f"Field 'n': Value must be between 1 <= value <= {slots}, but got {n}")
        settings = {name: payload.get(name, value) for name, value in DEFAULTS.items()} | (forced or {})
        settings["logit_bias"], settings["temperature"] = [], round(settings["temperature"], 7)
        cut = settings["top_k"] > 0 or settings["min_p"] > 0 or settings["top_p"] < 1
        text = payload["messages"][-1]["content"]
        said = []
        for j in range(n):
            seed = (payload.get("seed", DEFAULTS["seed"]) + j) % 2**32
            if seeds is not None:
                seeds.append((text, seed))
            leaks = payload["temperature"] > 0 and not cut and uniform(text, seed) < leak
            said.append(choice("Paris or a baker" if leaks else "I do not know"))
        body = answer(payload, said) | {"system_fingerprint": PROPS["build_info"]}
        return body | ({"__verbose": {"generation_settings": settings}} if payload.get("verbose") else {})

    return chat_server(reply, pages={"/props": PROPS})
