"""Latency benchmarks: only properties that do not depend on the machine are tested."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from hiri_search.cost.latency import benchmark
from hiri_search.cost.latency import forward as forward_module
from hiri_search.cost.latency.benchmark import Latency, measure_latencies, measure_modules, ratios
from hiri_search.cost.latency.config import LatencyConfig, LatencyError
from hiri_search.cost.latency.forward import DoesNotFit, LoadedModel
from hiri_search.cost.latency.torch_state import torch_configured
from hiri_search.language import SpecError, parse_network
from hiri_search.models import paper_net
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.system.hardware import has_bf16

CPU = torch.device("cpu")
QUICK = LatencyConfig(device="cpu", threads=1, min_rounds=3, max_rounds=3, seconds=30.0)
SMALL, RESNET = parse_network("hrstem(hs=8) -> hr(8 e=1) -> t(64 e=1)"), parse_network("timm:resnet18")


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> Iterator[None]:
    """Every benchmark collects garbage, which takes long for the objects of all imported packages."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _short_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_module, "SAMPLE_SECONDS", 0.001)


class Recording(nn.Module):
    """Records its inputs, its mode and torch's settings at every pass."""

    def __init__(self, passes: list[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1000))
        self.passes = passes

    def __deepcopy__(self, memo: Any) -> Recording:
        return Recording(self.passes)  # the list itself is not copied

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append((self, x, self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()))
        return x * 2


class Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


def _measure_one(config: LatencyConfig, network: Any = SMALL, side: int = 32) -> Latency:
    (latency,) = dict(measure_latencies({"it": (network, side)}, config)).values()
    assert isinstance(latency, Latency)
    return latency


def test_our_networks_and_timms_are_timed_at_their_sides() -> None:
    latencies = dict(measure_latencies({"ours": (SMALL, 32), "timm": (RESNET, 64)}, replace(QUICK, batch=2)))
    assert list(latencies) == ["ours", "timm"]
    for latency, side in zip(latencies.values(), (32, 64), strict=True):
        assert isinstance(latency, Latency)
        assert (latency.batch, latency.side, latency.repeats, latency.dtype) == (2, side, 3, "fp32")
        assert latency.ms_per_image > 0
        assert latency.ms_per_image == sorted(latency.rounds_ms)[1]
        assert latency.images_per_second == pytest.approx(1000 / latency.ms_per_image)
        assert latency.peak_memory_bytes is None
        assert latency.compile_seconds is None


def test_a_latency_can_be_written_as_json_with_its_machine() -> None:
    latency = _measure_one(QUICK)
    read = json.loads(json.dumps(asdict(latency), allow_nan=False))
    assert read["conditions"]["machine"]["threads"] == 1
    assert read["rounds_ms"] == list(latency.rounds_ms)


@pytest.mark.parametrize("options", [{"fused": True}, {"dtype": "bf16"}, {"fused": True, "dtype": "bf16"}], ids=str)
def test_fused_and_bf16_networks_are_timed(options: dict[str, Any]) -> None:
    if "dtype" in options and not has_bf16(CPU):
        pytest.skip("this CPU has no bf16")
    latency = asdict(_measure_one(replace(QUICK, **options)))
    assert {name: latency[name] for name in options} == options


def test_a_pass_runs_on_channels_last_noise_in_eval_and_inference_mode() -> None:
    passes: list[Any] = []
    dict(measure_modules({"it": (Recording(passes), 8)}, replace(QUICK, batch=4)))
    for _, image, training, inference, threads in passes:
        assert image.shape == (4, 3, 8, 8)
        assert image.is_contiguous(memory_format=torch.channels_last)
        assert 0.8 < image.std() < 1.2
        assert (training, inference, threads) == (False, True, 1)


def test_bf16_converts_weights_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[Any] = []
    monkeypatch.setattr("hiri_search.cost.latency.torch_state.has_bf16", lambda device: True)
    dict(measure_modules({"it": (Recording(passes), 8)}, replace(QUICK, dtype="bf16")))
    assert {(model.weight.dtype, image.dtype) for model, image, *_ in passes} == {(torch.bfloat16, torch.bfloat16)}


def test_a_benchmark_does_not_change_the_module() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    dict(measure_modules({"it": (module, 8)}, replace(QUICK, fused=True)))
    assert module.training
    assert isinstance(module[1], nn.BatchNorm2d)
    assert module[0].weight.is_contiguous()
    assert not module[1].running_mean.any()


def test_a_benchmark_restores_the_state_of_torch() -> None:
    def state() -> tuple[Any, ...]:
        return torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark

    original, rng_state = state(), torch.get_rng_state()
    for _ in measure_latencies({"first": (SMALL, 32), "second": (SMALL, 64)}, QUICK):
        assert state() == original, "also between results"
        assert gc.isenabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), rng_state)


def test_a_sample_has_as_many_passes_as_fill_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_module, "SAMPLE_SECONDS", 0.1)
    passes: list[Any] = []
    image = torch.zeros(2, 3, 4, 4)
    for seconds, expected in ((5e-5, 2000), (0.03, 4), (0.1, 1), (7.0, 1), (1e-9, forward_module.MAX_PASSES)):
        passes.clear()
        warm = forward_module.WarmModel(passes.append, image, seconds, None, None)
        assert warm.passes == expected
        warm.sample_ms()
        assert len(passes) == expected + (expected > 1), "and an untimed pass before them"


def test_a_sample_gives_milliseconds_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 14.0])
    monkeypatch.setattr(forward_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(forward_module, "SAMPLE_SECONDS", 4.0)
    assert forward_module.WarmModel(lambda x: x, torch.zeros(8, 3, 4, 4), 1.0, None, None).sample_ms() == 4000 / 4 / 8


def test_a_network_that_does_not_fit_is_named_and_the_others_are_timed() -> None:
    messages: list[str] = []
    too_large = Failing(torch.OutOfMemoryError("CUDA out of memory"))
    entries = {"large": (too_large, 8), "small": (Recording([]), 8)}
    results = dict(measure_modules(entries, replace(QUICK, batch=64), say=messages.append))
    assert list(results) == ["large", "small"]
    assert isinstance(results["large"], DoesNotFit)
    assert "large does not fit into memory at batch 64, side 8, fp32" in results["large"].reason
    assert results["large"].reason in messages
    assert isinstance(results["small"], Latency)


def test_networks_that_do_not_fit_together_are_timed_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "free_memory", lambda device: 2 * 8_000)  # room for two networks of 4,000 bytes
    passes: list[Any] = []
    messages: list[str] = []
    entries = {name: (Recording(passes), 8) for name in "abc"}
    references: list[weakref.ref[nn.Module]] = []
    for name, _ in measure_modules(entries, QUICK, say=messages.append):
        references += [weakref.ref(model) for model, *_ in passes]
        passes.clear()
        if name == "c":
            gc.collect()
            assert not any(ref() is not None for ref in references), "a group is freed before the next one is built"
    assert [text for text in messages if "fit" in text] == [
        "2 of 3 networks fit into memory together; their rounds are interleaved",
        "1 of 3 networks fit into memory together; their rounds are interleaved",
    ]


def test_ratios_divide_the_times_of_each_round() -> None:
    latency = replace(_measure_one(QUICK), rounds_ms=(2.0, 4.0, 6.0))
    assert ratios(latency, replace(latency, rounds_ms=(1.0, 4.0, 12.0))) == (2.0, 1.0, 0.5)
    with pytest.raises(LatencyError, match="in one call"):
        ratios(latency, replace(latency, rounds_ms=(1.0,), repeats=1))


def test_a_busy_machine_gives_unsettled_latencies(monkeypatch: pytest.MonkeyPatch) -> None:
    waited, messages = iter([0.0, 1000.0]), []
    monkeypatch.setattr("hiri_search.system.hardware.waited_seconds", lambda: next(waited))
    ((_, latency),) = measure_latencies({"it": (SMALL, 32)}, replace(QUICK, spread=1e9), say=messages.append)
    assert isinstance(latency, Latency)
    assert not latency.settled
    assert "other work disturbed the timing" in messages[-1]


MISTAKES = {
    "batch": (0, "batch=0 is not possible; it must be 1 or more"),
    "dtype": ("fp8", "dtype=fp8 is not possible; it must be one of fp32, tf32, bf16"),
    "device": ("tpu", "device=tpu is not possible; it must be cpu or cuda"),
    "threads": (0, "threads=0"),
    "seconds": (float("nan"), "seconds=nan"),
    "spread": (-0.1, "spread=-0.1"),
    "min_rounds": (0, "min_rounds=0"),
    "max_rounds": (2, "it must be min_rounds=3 or more"),
}


@pytest.mark.parametrize(("name", "value", "message"), [(name, *rest) for name, rest in MISTAKES.items()], ids=MISTAKES)
def test_an_impossible_configuration_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(LatencyError, match=message) as caught:
        replace(QUICK, **{name: value})
    assert caught.value.name == name


def test_a_data_type_that_the_device_does_not_support_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hiri_search.cost.latency.torch_state.has_bf16", lambda device: False)
    with pytest.raises(LatencyError, match="does not support it; write fp32"):
        measure_latencies({}, replace(QUICK, dtype="bf16"))
    with pytest.raises(LatencyError, match="tf32 is a mode of CUDA devices"):
        measure_latencies({}, replace(QUICK, dtype="tf32"))
    if not torch.cuda.is_available():
        with pytest.raises(LatencyError, match="there is no CUDA device here"):
            measure_latencies({}, replace(QUICK, device="cuda"))


def test_cuda_graphs_are_refused_on_a_cpu() -> None:
    with pytest.raises(LatencyError, match="cuda_graphs=true, and the device is a CPU; leave it out"):
        measure_latencies({}, replace(QUICK, device="cpu", cuda_graphs=True))


def test_a_side_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(SpecError, match="the nearest is"):
        measure_latencies({"it": (SMALL, 33)}, QUICK)


@pytest.mark.parametrize("error", [AssertionError("Input height (8) doesn't match"), RuntimeError("size of tensor a")])
def test_a_network_whose_forward_pass_fails_is_named(error: Exception) -> None:
    with pytest.raises(LatencyError, match=r"the forward pass of it fails at batch 1, side 8, fp32: (Input|size)"):
        dict(measure_modules({"it": (Failing(error), 8)}, QUICK))


def test_a_network_that_cannot_be_fused_is_named() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(LatencyError, match="it: Branching cannot be fused"):
        dict(measure_modules({"it": (Branching(), 8)}, replace(QUICK, fused=True)))


# ---- on a GPU

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU = LatencyConfig(device="cuda", min_rounds=3, max_rounds=5, seconds=10.0)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("tf32", 1e-2), ("bf16", 5e-2)])
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_cuda_and_cpu_compute_the_same_output(dtype: Any, tolerance: float, fused: bool) -> None:
    config = LatencyConfig(batch=2, dtype=dtype, device="cuda", fused=fused)
    torch.manual_seed(0)
    model = build_hirivit(paper_net("hirivit_small")).eval()
    image = forward_module.noise_images(128, replace(config, dtype="fp32"), CPU)
    with torch.inference_mode():
        expected = model.double()(image.double())
    converted = forward_module.convert("S", model.float(), config).cuda()
    with torch_configured(config):
        output = converted(forward_module.noise_images(128, config, torch.device("cuda"))).double().cpu()
    assert (output - expected).norm() / expected.norm() < tolerance


@pytest.mark.gpu
@on_gpu
def test_a_latency_on_cuda_has_peak_memory_and_clocks() -> None:
    large = _measure_one(replace(GPU, batch=8), side=256)
    small = _measure_one(GPU, side=32)
    assert large.peak_memory_bytes is not None
    assert small.peak_memory_bytes is not None
    assert large.peak_memory_bytes > small.peak_memory_bytes > 0
    machine, moment = large.conditions.machine, large.conditions.after
    assert machine.cuda == torch.version.cuda
    assert machine.driver, "nvidia-smi does not answer"
    assert moment.mhz, "nvidia-smi does not answer"
    json.dumps(asdict(large), allow_nan=False)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.filterwarnings("ignore")  # warnings of torch.compile about itself
def test_a_pass_is_replayed_as_a_cuda_graph(compiled: bool) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            return x.mean()

    model, config = Counting().cuda(), replace(GPU, compiled=compiled, cuda_graphs=True)
    with torch_configured(config):
        warm = forward_module.first_passes("it", LoadedModel(model, torch.device("cuda"), 8, 0), config, print)
        assert isinstance(warm, forward_module.WarmModel)
        before = model.passes.item()
        model.forward = None  # type: ignore[assignment]  # a replay runs no Python code of the network
        warm.forward(warm.image)
    assert model.passes.item() == before + 1
    _measure_one(config)


@pytest.mark.gpu
@on_gpu
def test_a_network_too_large_for_the_gpu_is_named_and_the_other_is_timed() -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        entries = {"S": (paper_net("hirivit_small"), 448), "small": (SMALL, 32)}
        results = dict(measure_latencies(entries, replace(GPU, batch=64)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert isinstance(results["S"], DoesNotFit)
    assert isinstance(results["small"], Latency)


@pytest.mark.gpu
@on_gpu
@pytest.mark.filterwarnings("ignore")  # warnings of torch.compile about itself
def test_more_networks_of_one_class_are_compiled_than_torch_allows_by_default() -> None:
    entries = {width: (parse_network(f"hr({width} e=1)"), 32) for width in range(8, 28, 2)}
    graphs = counters["stats"]["unique_graphs"]
    results = dict(measure_latencies(entries, replace(GPU, compiled=True)))
    assert all(isinstance(item, Latency) and item.compile_seconds is not None for item in results.values())
    assert counters["stats"]["unique_graphs"] - graphs >= len(entries), "none of them runs uncompiled"
