"""Workers that are actors of a Ray cluster. The driver needs no GPU and no model; the nodes need no common disk.

A model of a folder is opened on its node under the path that the driver has for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Callable
from typing import Any, ClassVar

from leakbound.errors import InputError
from leakbound.workers.hands import Full, Lost, carried_out, packed, unpacked

PLACING = 20.0
"""Seconds that a worker may wait for its place; a cluster that grows on demand sees that it waits."""


class Cluster:
    """A Ray cluster: at most ``asked`` actors, 0 for as many as its nodes have cores (or GPUs, if there are some)."""

    open: ClassVar[set[Cluster]] = set()
    """Those of this process: they have one connection, which the last of them ends."""
    reached: ClassVar[str] = ""
    """The address by which one of them made it."""

    def __init__(self, address: str, asked: int, threads: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError(f"ray is {address!r}: it needs Ray: pip install 'leakbound[ray]'") from error
        self.ray, self.asked, self.threads = ray, asked, threads
        if ray.is_initialized():
            if address not in ("auto", Cluster.reached, known := ray.get_runtime_context().gcs_address):
                raise InputError(f"ray is {address!r}, and this process is connected to {known}: give auto or end that")
        else:
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            try:
                if (place := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)) is not None:
                    socket.create_connection((place[1], int(place[2])), timeout=10).close()  # Ray tries for minutes
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="leakbound")
            except Exception as error:  # whatever it raises, nobody is there
                raise InputError(
                    f"ray is {address!r}: no cluster answers there ({' '.join(str(error).split())[:200]}): give "
                    "auto, HOST:PORT or ray://HOST:PORT of one that runs, of the same versions of Ray and Python"
                ) from error
            Cluster.reached = address
        self.gpus = int(bool(ray.cluster_resources().get("GPU")))
        self.kind = ray.remote(Actor)
        Cluster.open.add(self)

    def room(self) -> int:
        """What was asked for; else what the nodes that are alive have room for."""
        return self.asked or max(1, self._room())

    def _room(self) -> int:
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        of_cores = sum(int(node.get("CPU", 0)) // self.threads for node in alive)
        return min(of_cores, sum(int(node.get("GPU", 0)) for node in alive)) if self.gpus else of_cores

    def hire(self) -> OfCluster:
        """One more actor; Full where it finds no place for some seconds."""
        if self not in Cluster.open:
            raise Lost("its cluster was left")  # Ray would begin one of its own
        actor = self.kind.options(num_cpus=self.threads, num_gpus=self.gpus, max_restarts=0).remote()
        hand = OfCluster(self.ray, actor)
        try:
            begun, _ = self.ray.wait([actor.begin.remote(os.getcwd(), sys.path, self.threads)], timeout=PLACING)
            if begun:
                self.ray.get(begun)
                return hand
        except self.ray.exceptions.RayError as error:
            hand.close()
            raise Lost(_words(error)) from error
        hand.close()
        raise Full

    def close(self) -> None:
        """Leave the cluster, as the last one."""
        Cluster.open.discard(self)
        if Cluster.reached and not Cluster.open:
            Cluster.reached = ""
            self.ray.shutdown()


class OfCluster:
    """One worker, an actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self.ray, self.actor = ray, actor

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """The answer of the actor; Lost where it, its node or its answer is gone."""
        task = packed(function, args)
        try:
            answer = self.ray.get(self.actor.do.remote(task))
        except self.ray.exceptions.RayError as error:
            raise Lost(_words(error)) from error
        return unpacked(answer)

    def close(self) -> None:
        """Kill it."""
        with contextlib.suppress(Exception):  # it is gone, or its cluster is
            if self.ray.is_initialized():  # else Ray would begin one of its own
                self.ray.kill(self.actor)


class Actor:
    """What runs on a node."""

    def begin(self, folder: str, path: list[str], threads: int) -> None:
        """Names of files and modules mean what they mean where the driver is, as far as they are there."""
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path += [place for place in path if place not in sys.path and os.path.exists(place)]
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)))

    def do(self, task: bytes) -> bytes:
        """One task."""
        return carried_out(task)


def _words(error: Exception) -> str:
    """What Ray says of it, in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:1000]}"
