"""A Ray cluster for tests: all its nodes on this machine, each in its own processes."""

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
class Cluster:
    """A Ray head node, and worker nodes of one core each."""

    address: str
    process: subprocess.Popen[str]

    def kill_node(self, number: int) -> None:
        """Kill a node with all its processes."""
        assert self._request(number) == "killed"

    def alive(self) -> int:
        """Return the number of nodes with all processes alive."""
        return int(self._request("alive"))

    def _request(self, command: object) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@contextmanager
def ray_cluster(nodes: int, *, head: dict[str, Any], **environment: str) -> Iterator[Cluster]:
    """Start a cluster without tokens: a driver that joins sets RAY_AUTH_MODE=disabled."""
    command = [sys.executable, "-W", "ignore", __file__, json.dumps(head), str(nodes)]
    env = os.environ | {"RAY_AUTH_MODE": "disabled"} | environment
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        yield Cluster(process.stdout.readline().strip(), process)
        process.communicate()


def _serve(head: dict[str, Any], nodes: int) -> None:
    from ray import cluster_utils

    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    workers = [cluster.add_node(num_cpus=1) for _ in range(nodes)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "alive":
            print(sum(node.remaining_processes_alive() for node in (cluster.head_node, *workers)), flush=True)
        else:
            cluster.remove_node(workers.pop(int(line)), allow_graceful=False)
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]), int(sys.argv[2]))
