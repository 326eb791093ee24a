"""Nodes of a Ray cluster, all on this machine and in processes of their own; one may be lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Machines:
    """A head, and nodes of one core each."""

    address: str
    process: subprocess.Popen[str]

    def lose(self, number: int) -> None:
        """A node, with all of its processes."""
        assert self._ask(number) == "lost"

    def alive(self) -> int:
        """Nodes all of whose processes are there."""
        return int(self._ask("alive"))

    def _ask(self, question: object) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@contextmanager
def machines(nodes: int, *, head: dict[str, Any], **environment: str) -> Iterator[Machines]:
    """Open to all: whoever joins sets RAY_AUTH_MODE=disabled."""
    command = [sys.executable, "-W", "ignore", __file__, json.dumps(head), str(nodes)]
    env = os.environ | {"RAY_AUTH_MODE": "disabled"} | environment
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        yield Machines(process.stdout.readline().strip(), process)
        process.communicate()


def _serve(head: dict[str, Any], nodes: int) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=head)
    there = [cluster.add_node(num_cpus=1) for _ in range(nodes)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "alive":
            print(sum(node.remaining_processes_alive() for node in (cluster.head_node, *there)), flush=True)
        else:
            cluster.remove_node(there.pop(int(line)), allow_graceful=False)
            print("lost", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]), int(sys.argv[2]))
