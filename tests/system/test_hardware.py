"""Facts about the machine; a fact that the machine does not report is None, never an error."""

from __future__ import annotations

import os
import subprocess
import time
from types import SimpleNamespace

import pytest
import torch

from hiri_search.system import hardware
from hiri_search.system.hardware import (
    MachineState,
    cpu_mhz,
    cpu_model,
    find_machine,
    machine_state,
    parse_number,
    smi_values,
    with_conditions,
)

CPU = torch.device("cpu")
INFO = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\ncpu MHz\t\t: 2000.0\n\nprocessor\t: 1\ncpu MHz\t\t: 3000.5\n"


def test_proc_cpuinfo_is_read() -> None:
    assert cpu_model(INFO) == "Some CPU @ 2 GHz"
    assert cpu_mhz(INFO) == 2500.25


def test_a_machine_without_proc_has_a_cpu_name() -> None:
    assert cpu_model("") != ""
    assert cpu_mhz("") is None


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("1980, 2619\n", [1980.0, 2619.0]),
        ("[N/A], 2619\n", [None, 2619.0]),
        ("", [None, None]),
        ("No devices were found\n", [None, None]),
        ("1, 2, 3\n", [None, None]),
    ],
)
def test_nvidia_smi_output_becomes_numbers_or_none(output: str, expected: list[float | None]) -> None:
    assert [parse_number(value) for value in smi_values(output, 2)] == expected


@pytest.mark.parametrize("command", [["no-such-program"], ["false"], ["sleep", "5"]])
def test_a_missing_failing_or_hanging_command_has_no_output(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "SMI_SECONDS", 0.1)
    assert hardware._output(command) == ""


def test_find_machine_reports_threads_cores_and_torch_version() -> None:
    machine = find_machine(CPU)
    assert (machine.threads, machine.torch) == (torch.get_num_threads(), torch.__version__)
    assert machine.cores >= 1
    assert machine.driver is None


def test_with_conditions_returns_the_result_and_the_share_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, waited = iter([100.0, 110.0]), iter([3.0, 5.0])
    monkeypatch.setattr(hardware, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    monkeypatch.setattr(hardware, "waited_seconds", lambda: next(waited))
    result, conditions = with_conditions(CPU, lambda: "done")
    assert result == "done"
    assert conditions.waited == pytest.approx(0.2)
    assert isinstance(conditions.before, MachineState)


def test_waiting_is_none_on_a_system_that_does_not_report_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "waited_seconds", lambda: None)
    assert with_conditions(CPU, lambda: 1)[1].waited is None


def test_a_process_that_shares_its_core_waits() -> None:
    if hardware.waited_seconds() is None:
        pytest.skip("this system does not report waiting")
    before, allowed_cores = hardware.waited_seconds(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed_cores)})
    competitor = subprocess.Popen(["python3", "-c", "while True: pass"])  # inherits the affinity
    try:
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
    finally:
        competitor.kill()
        competitor.wait()
        os.sched_setaffinity(0, allowed_cores)
    assert before is not None
    assert (hardware.waited_seconds() or 0.0) - before > 0.05


def test_free_memory_is_in_bytes_or_none() -> None:
    free = hardware.free_memory(CPU)
    assert free is None or free > 2**20


def test_a_cpu_has_no_memory_clock() -> None:
    assert machine_state(CPU).memory_mhz is None


def test_a_gpu_of_apple_is_said_to_be_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert hardware.describe_device().endswith("; Apple's GPU (MPS) is not supported")
    assert hardware.gpus() == 0, "trials run on the CPU"


def test_the_most_memory_of_this_process_is_in_bytes() -> None:
    peak = hardware.peak_memory()
    assert peak is not None
    assert 2**26 < peak < 2**40
