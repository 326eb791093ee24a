"""Devices, cores, free memory, clocks, load and energy counters of this machine."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import torch

CPU_INFO, MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")  # Linux; elsewhere less is known
THREADS = Path("/proc/self/task")
SMI_SECONDS = 10  # nvidia-smi answers in a tenth of one, or hangs

T = TypeVar("T")


@dataclass(frozen=True)
class Machine:
    """What a number must be read beside: the device and the software that drives it."""

    device: str  # "NVIDIA H100 80GB HBM3", or the model of the CPU
    threads: int  # of one operator on the CPU
    cores: int  # of the CPU that this process may use
    torch: str
    cuda: str | None  # the version torch was built with; None on the CPU, as below
    cudnn: int | None
    driver: str | None


@dataclass(frozen=True)
class MachineState:
    """The state of a machine at one moment; None is what it does not tell."""

    mhz: float | None  # clock of the GPU's multiprocessors, or the mean over the CPU's cores
    memory_mhz: float | None  # of the GPU's memory
    load: float | None  # processes that ran or waited for the CPU, mean over a minute


@dataclass(frozen=True)
class Conditions:
    """Under which numbers were measured."""

    machine: Machine
    before: MachineState
    after: MachineState
    waited: float | None  # seconds that this process waited for a core that others held, by second; None: not told


def with_conditions(device: torch.device, work: Callable[[], T]) -> tuple[T, Conditions]:
    """What a measurement gives, and the conditions it was made under."""
    before, started, waited = machine_state(device), time.perf_counter(), waited_seconds()
    result = work()
    seconds, waited_by_then = time.perf_counter() - started, waited_seconds()
    known = waited is not None and waited_by_then is not None
    share = max(0.0, waited_by_then - waited) / seconds if known else None  # type: ignore[operator]
    return result, Conditions(find_machine(device), before, machine_state(device), share)


def find_machine(device: torch.device) -> Machine:
    """The machine that a device belongs to, with the threads torch uses now."""
    threads, cores = torch.get_num_threads(), _cores()
    if device.type != "cuda":
        return Machine(cpu_model(_read(CPU_INFO)), threads, cores, torch.__version__, None, None, None)
    (driver,) = _ask_smi(device, ["driver_version"])
    name = torch.cuda.get_device_name(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return Machine(name, threads, cores, torch.__version__, torch.version.cuda, cudnn, driver)


def machine_state(device: torch.device) -> MachineState:
    """The clocks and the load now."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if device.type != "cuda":
        return MachineState(cpu_mhz(_read(CPU_INFO)), None, load)
    mhz, memory_mhz = map(number, _ask_smi(device, ["clocks.sm", "clocks.mem"]))
    return MachineState(mhz, memory_mhz, load)


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on the device, or of the computer's own memory; None where it does not tell."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own, and unused
        return torch.cuda.mem_get_info(device)[0] + held
    kilobytes = _field(_read(MEMORY_INFO), "MemAvailable").removesuffix(" kB")
    return 1024 * int(kilobytes) if kilobytes else None


def waited_seconds() -> float | None:
    """What the threads of this process have waited for a core that others held, since they began; None: not told.

    One such wait stops all threads of an operator: with two threads on two cores, one busy neighbour makes a small
    network 100 times slower, at a small spread. Nothing else tells of it so soon; the load is a minute's mean.
    """
    told = [_read(thread / "schedstat").split() for thread in THREADS.glob("*")]
    waited = [int(words[1]) for words in told if len(words) == 3]  # nanoseconds: run, waited; times run
    return sum(waited) / 1e9 if waited else None


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 itself; others only imitate it, slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    library = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return library and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def cpu_model(info: str) -> str:
    """The name in the text of /proc/cpuinfo; the architecture where it has none."""
    return _field(info, "model name") or platform.processor() or platform.machine()


def cpu_mhz(info: str) -> float | None:
    """The mean clock in the text of /proc/cpuinfo."""
    found = [number(line.partition(":")[2]) for line in info.splitlines() if line.startswith("cpu MHz")]
    clocks = [mhz for mhz in found if mhz is not None]
    return fmean(clocks) if clocks else None


def number(text: str | None) -> float | None:
    """A number, or None for whatever else a tool says, such as [N/A]."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _field(text: str, name: str) -> str:
    """The value of the first `name : value` line, or nothing."""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for found, _, value in lines if found.strip() == name), "")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ask_smi(device: torch.device, names: Sequence[str]) -> list[str | None]:
    """What nvidia-smi says of the device, by name; None for all where it does not answer."""
    uuid = torch.cuda.get_device_properties(device).uuid
    query = ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    return smi_values(_answer(query), len(names))


def smi_values(answer: str, wanted: int) -> list[str | None]:
    """The values on the first line of what nvidia-smi wrote; None for each where they are not `wanted` many."""
    values = [value.strip() for value in answer.partition("\n")[0].split(",")]
    return [value or None for value in values] if len(values) == wanted else [None] * wanted


def _answer(command: Sequence[str]) -> str:
    """What a program writes; nothing where there is none, or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def describe_device() -> str:
    """In words: `2 x NVIDIA H100` or `CPU, 8 cores (x86_64)`."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"CPU, {cores()} cores ({platform.machine()})"


def gpus() -> int:
    """CUDA devices."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cores() -> int:
    """CPU cores this process may use, which in a container or a job may be fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_gpu_memory() -> None:
    """Give back the device memory that a training which has ended still holds."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


MILLI = 1e-3


def joules(device: torch.device) -> float | None:
    """Of the whole card since its driver was loaded, whoever used it: trials that share it count each other's.

    Told by NVIDIA's library (NVML) from Volta on, by way of the package nvidia-ml-py; None without one of these.
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) * MILLI
    except pynvml.NVMLError:  # an older card, or a part of one
        return None


def joules_between(before: float | None, after: float | None) -> float | None:
    """What was taken meanwhile; None where it is not known, or the counter began anew."""
    return after - before if before is not None and after is not None and after >= before else None
