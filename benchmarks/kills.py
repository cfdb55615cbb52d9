"""kill -9 at random moments of each kind of command, and the same command again until it ends.

``python benchmarks/kills.py [--kills 200] [--seed 0] [--kinds audit,until] [--write docs/results/kills.md]``; 200 kills
take about 40 minutes on a busy core.

Each command runs in a process that is forked from one that has loaded all there is to load. It is run twice
undisturbed: what differs between the two must be a time or the peak of memory, and is named, as is how many artefacts
of a study the last process made. All else must be the same, byte for byte, after any number of kills, and nothing may
be left in the folder, beside it or in the system's temporary folder that an undisturbed run does not leave. Half of the
kills come by the clock, evenly over the command's life; half just before a change of the disk (something is opened for
writing, renamed, made or removed), chosen evenly. A command is killed at most three times in a folder.
"""

import argparse
import faulthandler
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

ENDED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
TIMES = re.compile(r"(^|\.)(seconds|peak_memory_bytes|train_runtime|train_\w+_per_second)($|\.)")
"""Fields that carry a time, or the peak of memory."""
MODEL = ["world/original", "--prompts", "world/prompts.jsonl", "--max-tokens", "8", "--out", "out"]
AUDIT = ["audit", *MODEL, "--scorer", "contains", "--draws-per-shard", "64"]
TRAIN = ["--batch-size", "4", "--learning-rate", "1e-3", "--out", "out"]
FORGET = [
    "unlearn",
    "--like",
    "ours",
    "--model",
    "world/original",
    "--forget",
    "world/forget.jsonl",
    "--retain",
    "world/retain.jsonl",
]
KINDS = {
    "audit": [*AUDIT, "--num-samples", "256"],
    "until": [*AUDIT, "--num-samples", "512", "--until", "leak<=0.02"],
    "width": [*AUDIT, "--num-samples", "512", "--width", "0.2"],
    "auto": [*AUDIT, "--num-samples", "128", "--engine", "auto"],
    "certify": ["certify", *MODEL, "--scorer", "contains", "--num-generations", "32", "--proposal", "world/original"],
    "finetune": ["finetune", "--data", "world/forget.jsonl", "--from-scratch", "tiny", "--epochs", "4", *TRAIN],
    "unlearn": [*FORGET, *TRAIN, "--epochs", "4"],
    "unlearn --resume": [*FORGET, *TRAIN, "--epochs", "4", "--save-every", "3", "--resume"],
    "unlearn twice": [*FORGET, "--forget", "world/more.jsonl", *TRAIN, "--lora-rank", "2", "--resume"],
    "benchmark": ["benchmark", "own", "--model", "world/original", "--retain-model", "world/retrained", "--data",
                  "world", "--max-tokens", "8", "--num-samples", "64", "--out", "out"],
    "benchmark --continual": ["benchmark", "tofu", "--model", "world/original", "--data", "world/tofu", "--split",
                              "forget01", "--max-tokens", "8", "--num-samples", "16", "--continual", "--num-tasks", "2",
                              "--like", "ours",
                              "--epochs", "1", "--learning-rate", "1e-4", "--out", "out"],
    "check": ["check", "world/policy.yaml", "--out", "out"],
    "unlearn --until": [*FORGET, *TRAIN, "--epochs", "2", "--until", "leak<=0.5", "--keep", "known>=0.01", "--rounds",
                        "1", "--leak-samples", "16", "--max-tokens", "8", "--resume"],
    "study": ["study", "distribution", "--seeds", "4", "--corpus-size", "8", "--forget-size", "2", "--heldout", "2",
              "--validation", "2", "--kinds", "random", "--epochs", "1", "--unlearn-steps", "2", "--every", "1",
              "--unlearn-batch-size", "2", "--out", "out"],
}  # fmt: skip
"""The commands; ``out`` is where each one writes."""
DONE = ("finetune", "unlearn")
"""What says of a whole folder that it exists already, where it does not go on."""


@dataclass
class Started:
    """One process: how it ended (None: killed), what it said, after how many seconds and changes."""

    code: int | None
    said: str
    seconds: float
    changes: int


def start(work: Callable[[], Any], home: Path, *, after: float | None = None, change: int | None = None) -> Started:
    """Do the work in a forked process in the folder ``home``, killed after so many seconds or before that change."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    log, told = home.parent / f"{home.name}.log", os.pipe()
    log.write_text("")  # a kill may come before the first step
    begin, pid = time.monotonic(), os.fork()
    if pid == 0:
        os.setsid()  # whatever it signals, this script is not of its group
        for number in ENDED_BY:
            signal.signal(number, signal.SIG_DFL)
        os.chdir(home)
        tempfile.tempdir = str(home / "tmp")
        os.environ["TMPDIR"] = tempfile.tempdir
        out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = sys.stderr = open(out, "w")  # noqa: SIM115 - the process ends with it
        number = 0

        def count(event: str, args: tuple[Any, ...]) -> None:
            nonlocal number
            opened = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            if not (opened or event in CHANGES) or isinstance(args[0], int):
                return
            if os.path.realpath(args[0]).startswith(str(home)):
                number += 1
                if number == change:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        code = 1
        try:
            work()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(told[1], str(number).encode())
        os._exit(code)
    os.close(told[1])
    ended = 0, 0
    try:
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if after is not None and time.monotonic() - begin > after:
                break
            time.sleep(0.002)
    finally:
        if not ended[0]:  # not waited for yet, so that no other process has its number
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
    seconds = time.monotonic() - begin
    with os.fdopen(told[0]) as pipe:
        changes = int(pipe.read() or 0)
    code = os.waitstatus_to_exitcode(ended[1])
    return Started(None if code == -signal.SIGKILL else code, log.read_text(errors="replace"), seconds, changes)


def tree(home: Path) -> dict[str, bytes]:
    """All files below a folder by their names, and its folders."""
    found = {}
    for path in sorted(home.rglob("*")):
        if "world" not in path.relative_to(home).parts[:1]:
            found[str(path.relative_to(home))] = path.read_bytes() if path.is_file() else b"a folder"
        if path.name == "evaluation.md":  # one line of it says what took how many seconds
            found[str(path.relative_to(home))] = re.sub(rb"(?m)^Time: .*$", b"Time", path.read_bytes())
    return found


def fields(value: Any, name: str = "") -> dict[str, Any]:
    """The values of a JSON value by their paths."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        return {name: value}
    found = {f"{name}.{len(value)} entries": True}
    for key, part in pairs:
        found |= fields(part, f"{name}.{key}".strip("."))
    return found


def differing(one: dict[str, bytes], two: dict[str, bytes]) -> set[str]:
    """Where two trees differ: names of files, with the fields of JSON objects, but for their checksum."""
    found = set(one.keys() ^ two.keys())
    for name in one.keys() & two.keys():
        if one[name] == two[name]:
            continue
        if not name.endswith(".json"):
            found.add(name)
            continue
        a, b = fields(json.loads(one[name])), fields(json.loads(two[name]))
        found |= {f"{name}: {key}".rstrip(": ") for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
    return {name for name in found if not name.endswith(".json: seal")}


def is_time(name: str) -> bool:
    """Whether a place of :func:`differing` is a field that carries a time."""
    file, _, key = name.partition(": ")
    count = file.endswith("study.json") and key in ("made", "found")  # by this process, and by those before it
    return count or bool(TIMES.search(key)) or (file.endswith("-seconds.json") and not key)


@dataclass
class Found:
    """What was found of one kind of command."""

    seconds: float
    changes: int
    times: set[str]
    kills: int = 0
    folders: int = 0
    wrong: list[str] = field(default_factory=list)


def try_kind(kind: str, work: Callable[[], Any], home: Path, kills: int, seed: int) -> Found:
    """Run the work whole, twice, then kill it so often, at most three times in a folder; ``home/world`` is given."""
    rng, world = random.Random(f"{kind}/{seed}"), home / "world"

    def fresh(name: str) -> Path:
        shutil.rmtree(home / name, ignore_errors=True)
        (home / name).mkdir()
        if world.exists():
            (home / name / "world").symlink_to(world)
        return home / name

    whole = [(start(work, folder), tree(folder)) for folder in (fresh("whole"), fresh("again"))]
    for ended, _ in whole:
        if ended.code != whole[0][0].code or ended.code in (None, 2) or "Traceback" in ended.said:
            raise SystemExit(f"{kind} does not run: {ended.said[-2000:]}")
    right = whole[0][1]
    found = Found(whole[1][0].seconds, whole[1][0].changes, differing(right, whole[1][1]))
    found.wrong = sorted(f"undisturbed: {name}" for name in found.times if not is_time(name))
    while found.kills < kills:
        folder, said = fresh("killed"), []
        found.folders += 1
        for number in range(4):
            clock = (found.kills + number) % 2 == 0
            moment: dict[str, Any] = {}
            if number < 3 and found.kills < kills:
                moment = (
                    {"after": rng.uniform(0, found.seconds)} if clock else {"change": rng.randint(1, found.changes)}
                )
            ended = start(work, folder, **moment)
            said.append(", ".join(f"{k} {v}" for k, v in moment.items()))
            if ended.code is not None:
                break
            found.kills += 1
        exists = "exists already" in ended.said and kind.split()[0] in DONE
        if ended.code != whole[0][0].code and not exists:
            found.wrong.append(f"{said}: exit {ended.code}: {ended.said.strip()[-300:]}")
        elif wrong := {name for name in differing(right, tree(folder)) if not is_time(name)}:
            found.wrong.append(f"{said}: {sorted(wrong)[:5]}")
        print(f"{kind}: {found.kills} of {kills} kills {found.wrong[-1:]}", file=sys.stderr, flush=True)
    return found


def make_world(folder: Path) -> None:
    """Questions about six people, the same as a TOFU of three tasks, and two models that learned them for a moment."""
    from leakbound.suites.biographies import biographies
    from leakbound.unlearning import FinetuneConfig, finetune

    files = biographies(num_people=12, seed=0).write(folder)
    rows = {name: [json.loads(line) for line in file.read_text().splitlines()] for name, file in files.items()}

    def write(name: str, some: list[Any]) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in some))

    forget, retain = rows["forget"], rows["retain"][:12]
    for name, some in (("forget", forget[:8]), ("more", retain[8:]), ("retain", retain[:8])):
        write(f"{name}.jsonl", some)
    write("prompts.jsonl", [{"text": row["question"], "target": row["target"]} for row in forget[:6]])
    (folder / "policy.yaml").write_text(
        "model: world/original\ndefaults: {prompts: world/prompts.jsonl, scorer: contains, max-tokens: 8, "
        "num-samples: 512}\nclaims: [{claim: 'leak<=0.9'}, {claim: 'known>=0.001'}, {claim: 'leak<=0.1', of: each}]\n"
    )
    asked = [{"question": row["question"], "answer": row["answer"]} for row in forget + retain]
    for row in asked:
        row |= {
            "paraphrased_answer": row["answer"],
            "perturbed_answer": [x["answer"] for x in asked[:6] if x is not row][:5],
        }
    tasks = [{**row, "task_id": str(1 + i // 2)} for i, row in enumerate(asked[:6])]
    others = [{**row, "perturbed_answer": row["perturbed_answer"][:3]} for row in asked[10:14]]
    for name, some in (("forget01", tasks), ("forget01_perturbed", tasks), ("retain90", asked[6:10]),
                       ("retain_perturbed", asked[6:10]), ("real_authors_perturbed", others[:2]),
                       ("world_facts_perturbed", others[2:])):  # fmt: skip
        write(f"tofu/{name}.json", some)
    how: dict[str, Any] = {"from_scratch": "tiny", "batch_size": 8, "learning_rate": 2e-3}
    finetune(FinetuneConfig(data=files["full"], out=folder / "original", epochs=6, **how), progress=False)
    tokenizer = str(folder / "original")
    finetune(
        FinetuneConfig(data=files["retain"], out=folder / "retrained", epochs=6, tokenizer=tokenizer, **how),
        progress=False,
    )


def load_everything() -> None:
    """What the commands load, so that the processes forked from this one need not; nothing computes here."""
    import importlib

    for name in ("matplotlib.pyplot", "torch", "transformers.models.llama.modeling_llama", "transformers.trainer",
                 "peft", "leakbound.cli", "leakbound.models.hf", "leakbound.unlearning", "leakbound.auditing",
                 "leakbound.unlearning.train", "leakbound.evaluating.continual", "leakbound.report", "ruamel.yaml",
                 "leakbound.studies.distribution.steps", "leakbound.studies.distribution.causal"):  # fmt: skip
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)


def say_and_end(number: int, _: Any) -> None:
    """Nobody should have to guess why a run of an hour is not there any more."""
    raise SystemExit(f"ended by {signal.Signals(number).name}")


def main() -> None:
    faulthandler.enable()
    for number in ENDED_BY:
        signal.signal(number, say_and_end)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", COLUMNS="100")
    kinds = [kind for kind in KINDS if kind in args.kinds.split(",")]
    load_everything()
    from leakbound.cli import main as command

    lines = [
        "| command | seconds | changes of the disk | folders | kills | wrong | fields that carry a time |",
        "|---" * 7 + "|",
    ]
    wrong, begin, total = [], time.monotonic(), 0
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary).resolve()
        made = start(lambda: make_world(home / "world"), home / "maker")
        if made.code != 0:
            raise SystemExit(made.said)
        for i, kind in enumerate(kinds):
            kills = args.kills * (i + 1) // len(kinds) - args.kills * i // len(kinds)
            found = try_kind(kind, lambda kind=kind: command(KINDS[kind]), home, kills, args.seed)
            times = {"seconds" if "seconds" in name else re.sub(r"^.*(: |\.)", "", name) for name in found.times}
            total += found.kills
            wrong += [f"{kind}: {what}" for what in found.wrong]
            lines.append(
                f"| {kind} | {found.seconds:.1f} | {found.changes} | {found.folders} | {found.kills} | "
                f"{len(found.wrong)} | {', '.join(sorted(times)) or 'none'} |"
            )
            print(lines[-1], flush=True)
    said = f"{total} kills, {len(wrong)} wrong, {(time.monotonic() - begin) / 60:.0f} minutes"
    print("\n".join(["", *lines, "", said, *wrong]))
    if args.write:
        about = (__doc__ or "").split("\n\n", 2)[2]
        args.write.write_text(
            f"# kill -9\n\n`python benchmarks/kills.py --kills {args.kills} --seed {args.seed}` on {date.today()}, AMD "
            f"EPYC, 2 shared cores, one process: {said}.\n\n{about}\n" + "\n".join(lines) + "\n"
        )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
