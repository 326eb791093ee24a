"""Devices, cores, free memory, clocks, load and energy counters of this machine."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeVar

import torch

from hiri_search.system.units import KIB

_CPU_INFO, _MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")  # on Linux only
_THREADS = Path("/proc/self/task")
SMI_SECONDS = 10  # timeout of nvidia-smi, which normally takes 0.1 s
_MILLI = 1e-3

_T = TypeVar("_T")


@dataclass(frozen=True)
class Machine:
    """The device and the software versions with which a number was measured."""

    device: str  # "NVIDIA H100 80GB HBM3", or the model of the CPU
    threads: int  # of one operator on the CPU
    cores: int  # CPU cores that this process may use
    torch: str
    cuda: str | None  # the version torch was built with; this and the fields below are None on the CPU
    cudnn: int | None
    driver: str | None


@dataclass(frozen=True)
class MachineState:
    """The state of a machine at one moment; a value that the machine does not report is None."""

    mhz: float | None  # clock of the GPU's multiprocessors, or the mean over the CPU's cores
    memory_mhz: float | None  # of the GPU's memory
    load: float | None  # running and waiting processes, averaged over one minute


@dataclass(frozen=True)
class Conditions:
    """The conditions of a measurement."""

    machine: Machine
    before: MachineState
    after: MachineState
    waited: float | None  # seconds per second that this process waited for busy cores; None: not reported


def with_conditions(device: torch.device, work: Callable[[], _T]) -> tuple[_T, Conditions]:
    """Return the result of a measurement and its conditions."""
    before, started, waited_before = machine_state(device), time.perf_counter(), waited_seconds()
    result = work()
    seconds, waited_after = time.perf_counter() - started, waited_seconds()
    reported = waited_before is not None and waited_after is not None
    share = max(0.0, waited_after - waited_before) / seconds if reported else None  # type: ignore[operator]
    return result, Conditions(find_machine(device), before, machine_state(device), share)


def find_machine(device: torch.device) -> Machine:
    """Return the machine of a device, with the number of threads that torch uses now."""
    threads = torch.get_num_threads()
    if device.type != "cuda":
        return Machine(cpu_model(_read(_CPU_INFO)), threads, cores(), torch.__version__, None, None, None)
    (driver,) = _query_smi(device, ["driver_version"])
    name = torch.cuda.get_device_name(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return Machine(name, threads, cores(), torch.__version__, torch.version.cuda, cudnn, driver)


def machine_state(device: torch.device) -> MachineState:
    """Return the current clocks and load."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if device.type != "cuda":
        return MachineState(cpu_mhz(_read(_CPU_INFO)), None, load)
    mhz, memory_mhz = map(parse_number, _query_smi(device, ["clocks.sm", "clocks.mem"]))
    return MachineState(mhz, memory_mhz, load)


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes of the GPU, or of main memory for the CPU; None if not reported."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # unused, in torch's cache
        return torch.cuda.mem_get_info(device)[0] + cached
    return free_main_memory()


def free_main_memory() -> int | None:
    """Return the free bytes of main memory; None if not reported."""
    kilobytes = _field(_read(_MEMORY_INFO), "MemAvailable").removesuffix(" kB")
    return 1024 * int(kilobytes) if kilobytes else None


def peak_memory() -> int | None:
    """Return the most bytes that this process has needed so far: reserved on the GPU, else in main memory.

    None where the system does not report it.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else KIB
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def waited_seconds() -> float | None:
    """Return the seconds that the threads of this process have waited for busy cores so far; None if not reported.

    The wait of one thread stops all threads of an operator: with two threads on two cores, one other busy process
    makes a small network 100 times slower, with little spread between rounds. The load shows this only a minute later.
    """
    schedstats = [_read(thread / "schedstat").split() for thread in _THREADS.glob("*")]
    waited = [int(fields[1]) for fields in schedstats if len(fields) == 3]  # ns running, ns waiting, time slices
    return sum(waited) / 1e9 if waited else None


def has_bf16(device: torch.device) -> bool:
    """Return True if the hardware multiplies bf16; other devices emulate it slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    library = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return library and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def cpu_model(info: str) -> str:
    """Return the CPU model in the text of /proc/cpuinfo, or else the architecture."""
    return _field(info, "model name") or platform.processor() or platform.machine()


def cpu_mhz(info: str) -> float | None:
    """Return the mean clock of the cores in the text of /proc/cpuinfo."""
    numbers = [parse_number(line.partition(":")[2]) for line in info.splitlines() if line.startswith("cpu MHz")]
    clocks = [mhz for mhz in numbers if mhz is not None]
    return fmean(clocks) if clocks else None


def parse_number(text: str | None) -> float | None:
    """Return the number in a text, or None for any other text, such as [N/A]."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _field(text: str, name: str) -> str:
    """Return the value of the first `name : value` line, or an empty string."""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for label, _, value in lines if label.strip() == name), "")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _query_smi(device: torch.device, names: Sequence[str]) -> list[str | None]:
    """Return the values of these nvidia-smi fields for the device; all None if nvidia-smi fails."""
    uuid = torch.cuda.get_device_properties(device).uuid
    query = ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    return smi_values(_output(query), len(names))


def smi_values(output: str, count: int) -> list[str | None]:
    """Return the values on the first line of nvidia-smi's output; all None unless there are `count` values."""
    values = [value.strip() for value in output.partition("\n")[0].split(",")]
    return [value or None for value in values] if len(values) == count else [None] * count


def _output(command: Sequence[str]) -> str:
    """Return the standard output of a command; an empty string if the command is missing, fails or hangs."""
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return finished.stdout


def describe_device() -> str:
    """Return a short description: `2 x NVIDIA H100` or `CPU, 8 cores (x86_64)`.

    Apple's GPU is not used, since no training was tried on it: there trials run on the CPU.
    """
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    unused = "; Apple's GPU (MPS) is not supported" if torch.backends.mps.is_available() else ""
    return f"CPU, {cores()} cores ({platform.machine()}){unused}"


def gpus() -> int:
    """Return the number of CUDA devices."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cores() -> int:
    """Return the number of CPU cores that this process may use; a container or job may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def training_device() -> torch.device:
    """Return CUDA's current device, or the CPU; to be called before anything is computed on a GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # cuBLAS reads this variable at its first matrix product; without it some products differ between runs.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error says that the GPU has no memory left; libraries have words of their own for it."""
    said = "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)


def free_gpu_memory() -> None:
    """Release the GPU memory that nothing uses any more, for other processes."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def joules(device: torch.device) -> float | None:
    """Return the energy that the GPU has used since its driver was loaded; None if not reported.

    The counter belongs to the whole GPU, so trials that share the GPU also count each other's energy. It needs a
    Volta GPU or newer and the package nvidia-ml-py (NVML).
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) * _MILLI
    except pynvml.NVMLError:  # an older GPU, or a MIG partition of a GPU
        return None


def joules_between(before: float | None, after: float | None) -> float | None:
    """Return the difference of two `joules` readings; None if one is missing or the counter was reset."""
    return after - before if before is not None and after is not None and after >= before else None
