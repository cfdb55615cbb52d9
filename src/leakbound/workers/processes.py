"""Workers that are processes of this machine, spoken to through their standard input and output.

A worker ends when its input does, also in the middle of a task: it never outlives who started it, not even kill -9.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from leakbound.workers.hands import Lost, carried_out, packed, unpacked

BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from leakbound.workers.processes import serve; serve()"
)
LAST_WORDS = 2000
"""Bytes at the end of what a worker said that are shown when it is lost."""
SHARING = "LEAKBOUND_SHARING"
"""How many processes share the memory of the device that a worker is on."""


class Processes:
    """This machine: ``asked`` processes of ``threads`` threads each, each on a GPU of its own as far as there are."""

    def __init__(self, asked: int, threads: int) -> None:
        self.asked, self.threads, self.hired = asked, threads, 0
        self.lock = threading.Lock()

    def room(self) -> int:
        """All of them."""
        return self.asked

    def hire(self) -> Process:
        """Start one process."""
        with self.lock:
            number, self.hired = self.hired % self.asked, self.hired + 1
        gpus = _gpus()
        mine = gpus[number :: self.asked] or gpus[number % len(gpus) :][:1] if gpus else []
        sharing = math.ceil(self.asked / len(gpus)) if gpus else self.asked
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads))
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(mine)} if mine else {}
        return Process({**os.environ, **threads, **visible, SHARING: str(sharing)})

    def close(self) -> None:
        """Nothing is left."""


class Process:
    """One worker, a process with this environment."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
            env=environment,
            start_new_session=True,  # Ctrl-C is for who started it
        )

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """The answer of the process; Lost with its last words where it is dead."""
        task = packed(function, args)
        try:
            _send(self.process.stdin, task)
            answer = _receive(self.process.stdout)
        except (OSError, ValueError):  # ValueError: it was closed here
            answer = None
        except BaseException:  # Ctrl-C: the answer on its way would be taken for the next one
            self.close()
            raise
        if answer is None:
            raise Lost(self._last_words())
        return unpacked(answer)

    def _last_words(self) -> str:
        """How it ended, and the end of what it said."""
        code = self.process.wait()
        ended = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        try:
            size = self.words.seek(0, os.SEEK_END)
            self.words.seek(max(0, size - LAST_WORDS))
            said = self.words.read().decode(errors="replace").strip()
        except ValueError:  # closed here
            said = ""
        return f"{ended}; its last words: {said}" if said else f"{ended}, without a word"

    def close(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        for pipe in filter(None, (self.process.stdin, self.process.stdout, self.words)):
            with contextlib.suppress(OSError):  # what was left to be written has no reader
                pipe.close()


def serve() -> None:
    """The life of a worker: tasks from standard input, answers to standard output, until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a task prints is no answer
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    while True:
        _send(answers, carried_out(tasks.get()))


def _listen(tasks: queue.SimpleQueue[bytes]) -> None:
    while (task := _receive(sys.stdin.buffer)) is not None:
        tasks.put(task)
    os._exit(0)  # nobody waits for an answer any more


def _send(pipe: BinaryIO | Any, data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


def _receive(pipe: BinaryIO | Any) -> bytes | None:
    """The next message; None where the other side is gone."""
    size = pipe.read(8)
    if len(size) < 8:
        return None
    data: bytes = pipe.read(wanted := int.from_bytes(size, "big"))
    return data if len(data) == wanted else None


def _gpus() -> list[str]:
    """The NVIDIA GPUs that a process may see, by the names that CUDA_VISIBLE_DEVICES has for them."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in given.split(",") if name.strip()]
    return sorted(
        found[1] for file in Path("/dev").glob("nvidia*") if (found := re.fullmatch(r"nvidia(\d+)", file.name))
    )
