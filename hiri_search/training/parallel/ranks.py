"""Ranks: the processes that train one network together, and what they tell each other."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from ipaddress import ip_address
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_T = TypeVar("_T")
# The option of DistributedDataParallel, by its new or its old name, that copies buffers before each forward pass.
_IS_NEW = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
_NO_COPIES: dict[str, Any] = {"forward_sync_buffers" if _IS_NEW else "broadcast_buffers": False}


@dataclass(frozen=True)
class Ranks:
    """The processes that train one network together, as one of them sees them; by default it is alone.

    All of them have the same weights, optimizer and averages. Each one computes the gradients of its part of a batch.
    """

    rank: int = 0  # of this process; the first one, 0, writes files and reports epochs
    size: int = 1  # processes

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def batch_indices(self, batch: int) -> Tensor:
        """Return the rows of a batch that this process trains on, each with its partner in Mixup, batch - 1 - row.

        Their reverse exchanges partners, as in the whole batch. `batch` is a multiple of twice the processes.
        """
        assert batch % (2 * self.size) == 0, "check_processes refuses other batches"
        pairs = batch // (2 * self.size)
        first = torch.arange(self.rank * pairs, (self.rank + 1) * pairs)
        return torch.cat([first, batch - 1 - first.flip(0)])

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return a network whose gradients are the means over the processes."""
        # BatchNorm is synchronised, or its statistics are averaged after each epoch: no buffer needs a broadcast.
        return model if self.size == 1 else DistributedDataParallel(model, **_NO_COPIES)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes."""
        if self.size == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.size

    def gathered(self, value: _T) -> list[_T]:
        """Return the values of all processes, by rank."""
        values = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value)
        return values

    def from_first(self, make: Callable[[], _T]) -> _T:
        """Return what `make` returns in the first process; the others do not call it."""
        values: list[Any] = [make() if self.is_first else None]
        if self.size > 1:
            distributed.broadcast_object_list(values)
        made: _T = values[0]
        return made


ONE_PROCESS = Ranks()


def without_exchange(parallel: nn.Module) -> AbstractContextManager[None]:
    """In the block, `Ranks.parallel` only adds up the gradients of this process."""
    exchanges = isinstance(parallel, DistributedDataParallel)
    return parallel.no_sync() if exchanges else nullcontext()  # type: ignore[operator]


def backend() -> str:
    """Return how processes on this machine exchange gradients."""
    return "nccl" if torch.cuda.is_available() else "gloo"


def open_store(host: str, size: int, *, seconds: float) -> distributed.TCPStore:
    """Return the store at which the first process meets the others; it listens at the address `host` alone."""
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = listener.getsockname()[1]
    return _store(host, port, size, seconds, is_master=True, master_listen_fd=listener.detach())


def find_store(host: str, port: int, size: int, *, seconds: float) -> distributed.TCPStore:
    """Return the store of the first process."""
    return _store(host, port, size, seconds)


def _store(host: str, port: int, size: int, seconds: float, **options: Any) -> distributed.TCPStore:
    return distributed.TCPStore(host, port, size, timeout=timedelta(seconds=seconds), wait_for_workers=False, **options)


@contextmanager
def joined(store: distributed.TCPStore, ranks: Ranks, *, seconds: float) -> Iterator[Ranks]:
    """Connect this process with the others: NCCL for CUDA tensors, gloo for all else.

    RuntimeError where another process is missing for `seconds`, and soon after one has ended.
    """
    if ip_address(store.host).is_loopback:  # all are on this machine: listen to no other
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    limit = timedelta(seconds=seconds)
    distributed.init_process_group(backends, store=store, rank=ranks.rank, world_size=ranks.size, timeout=limit)
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()
