"""Latency is measured, so only what cannot depend on the machine is claimed."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hiri_search.cost.latency import benchmark
from hiri_search.cost.latency import forward as forward_module
from hiri_search.cost.latency.benchmark import Latency, measure_latencies, measure_modules, ratios
from hiri_search.cost.latency.config import LatencyConfig, LatencyError
from hiri_search.cost.latency.forward import DoesNotFit
from hiri_search.cost.latency.torch_state import torch_configured
from hiri_search.language import SpecError, parse_network
from hiri_search.models import paper_net
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.system.hardware import has_bf16

CPU = torch.device("cpu")
QUICK = LatencyConfig(device="cpu", threads=1, least=3, most=3, seconds=30.0)
SMALL, RESNET = parse_network("hrstem(hs=8) -> hr(8 e=1) -> t(64 e=1)"), parse_network("timm:resnet18")


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_module, "TURN_SECONDS", 0.001)


class Seeing(nn.Module):
    """Remembers what it saw, in which state, and what torch was set to."""

    def __init__(self, seen: list[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1000))
        self.seen = seen

    def __deepcopy__(self, memo: Any) -> Seeing:
        return Seeing(self.seen)  # the list stays the same one

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((self, x, self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()))
        return x * 2


class Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


def _one(setting: LatencyConfig, network: Any = SMALL, side: int = 32) -> Latency:
    (found,) = dict(measure_latencies({"it": (network, side)}, setting)).values()
    assert isinstance(found, Latency)
    return found


def test_networks_of_both_kinds_are_timed_each_at_its_side() -> None:
    found = dict(measure_latencies({"ours": (SMALL, 32), "theirs": (RESNET, 64)}, replace(QUICK, batch=2)))
    assert list(found) == ["ours", "theirs"]
    for one, side in zip(found.values(), (32, 64), strict=True):
        assert isinstance(one, Latency)
        assert (one.batch, one.side, one.repeats, one.dtype) == (2, side, 3, "fp32")
        assert one.ms_per_image > 0
        assert one.ms_per_image == sorted(one.rounds_ms)[1]
        assert one.images_per_second == pytest.approx(1000 / one.ms_per_image)
        assert one.peak_memory_bytes is None
        assert one.compile_seconds is None


def test_a_latency_goes_through_json_with_its_machine() -> None:
    found = _one(QUICK)
    read = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert read["conditions"]["machine"]["threads"] == 1
    assert read["rounds_ms"] == list(found.rounds_ms)


@pytest.mark.parametrize("way", [{"fused": True}, {"dtype": "bf16"}, {"fused": True, "dtype": "bf16"}], ids=str)
def test_fused_and_bf16_networks_are_timed(way: dict[str, Any]) -> None:
    if "dtype" in way and not has_bf16(CPU):
        pytest.skip("this CPU has no bf16")
    found = asdict(_one(replace(QUICK, **way)))
    assert {name: found[name] for name in way} == way


def test_a_pass_sees_noise_in_channels_last_in_eval_mode_and_nothing_of_autograd() -> None:
    seen: list[Any] = []
    dict(measure_modules({"it": (Seeing(seen), 8)}, replace(QUICK, batch=4)))
    for _, image, training, inference, threads in seen:
        assert image.shape == (4, 3, 8, 8)
        assert image.is_contiguous(memory_format=torch.channels_last)
        assert 0.8 < image.std() < 1.2
        assert (training, inference, threads) == (False, True, 1)


def test_bf16_is_that_of_weights_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("hiri_search.cost.latency.torch_state.has_bf16", lambda device: True)
    dict(measure_modules({"it": (Seeing(seen), 8)}, replace(QUICK, dtype="bf16")))
    assert {(model.weight.dtype, image.dtype) for model, image, *_ in seen} == {(torch.bfloat16, torch.bfloat16)}


def test_a_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    dict(measure_modules({"it": (module, 8)}, replace(QUICK, fused=True)))
    assert module.training
    assert isinstance(module[1], nn.BatchNorm2d)
    assert module[0].weight.is_contiguous()
    assert not module[1].running_mean.any()


def test_torch_is_left_as_it_was() -> None:
    def state() -> tuple[Any, ...]:
        return torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark

    before, torch_random = state(), torch.get_rng_state()
    for _ in measure_latencies({"it": (SMALL, 32), "other": (SMALL, 64)}, QUICK):
        assert state() == before, "between results too"
        assert gc.isenabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), torch_random)


def test_a_turn_has_as_many_passes_as_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_module, "TURN_SECONDS", 0.1)
    seen: list[Any] = []
    image = torch.zeros(2, 3, 4, 4)
    for seconds, wanted in ((5e-5, 2000), (0.03, 4), (0.1, 1), (7.0, 1), (1e-9, forward_module.MAX_PASSES)):
        seen.clear()
        ready = forward_module.WarmModel(seen.append, image, seconds, None, None)
        assert ready.passes == wanted
        ready.timed_turn()
        assert len(seen) == wanted + (wanted > 1), "and one before them, untimed"


def test_a_turn_tells_milliseconds_for_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 14.0])
    monkeypatch.setattr(forward_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(forward_module, "TURN_SECONDS", 4.0)
    assert forward_module.WarmModel(lambda x: x, torch.zeros(8, 3, 4, 4), 1.0, None, None).timed_turn() == 4000 / 4 / 8


def test_what_does_not_fit_is_named_and_the_others_are_timed() -> None:
    said: list[str] = []
    full = Failing(torch.OutOfMemoryError("CUDA out of memory"))
    entries = {"large": (full, 8), "small": (Seeing([]), 8)}
    found = dict(measure_modules(entries, replace(QUICK, batch=64), say=said.append))
    assert list(found) == ["large", "small"]
    assert isinstance(found["large"], DoesNotFit)
    assert "large does not fit into memory at batch 64, side 8, fp32" in found["large"].reason
    assert found["large"].reason in said
    assert isinstance(found["small"], Latency)


def test_networks_that_do_not_fit_together_are_timed_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "free_memory", lambda device: 2 * 8_000)  # two have 4,000 bytes of weights each
    seen: list[Any] = []
    said: list[str] = []
    entries = {name: (Seeing(seen), 8) for name in "abc"}
    alive: list[weakref.ref[nn.Module]] = []
    for name, _ in measure_modules(entries, QUICK, say=said.append):
        alive += [weakref.ref(model) for model, *_ in seen]
        seen.clear()
        if name == "c":
            gc.collect()
            assert not any(one() is not None for one in alive), "a group's networks go before the next one's come"
    assert [text for text in said if "fit" in text] == [
        "2 of 3 networks fit into memory together, and take turns",
        "1 of 3 networks fit into memory together, and take turns",
    ]


def test_the_ratio_is_that_of_each_round() -> None:
    one = replace(_one(QUICK), rounds_ms=(2.0, 4.0, 6.0))
    assert ratios(one, replace(one, rounds_ms=(1.0, 4.0, 12.0))) == (2.0, 1.0, 0.5)
    with pytest.raises(LatencyError, match="in one call"):
        ratios(one, replace(one, rounds_ms=(1.0,), repeats=1))


def test_a_busy_machine_settles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    waited, said = iter([0.0, 1000.0]), []
    monkeypatch.setattr("hiri_search.system.hardware.waited_seconds", lambda: next(waited))
    ((_, found),) = measure_latencies({"it": (SMALL, 32)}, replace(QUICK, spread=1e9), say=said.append)
    assert isinstance(found, Latency)
    assert not found.settled
    assert "other work held the cores" in said[-1]


MISTAKES = {
    "batch": (0, "batch=0 is not possible; it must be 1 or more"),
    "dtype": ("fp8", "dtype=fp8 is not possible; it must be one of fp32, tf32, bf16"),
    "device": ("tpu", "device=tpu is not possible; it must be cpu or cuda"),
    "threads": (0, "threads=0"),
    "seconds": (float("nan"), "seconds=nan"),
    "spread": (-0.1, "spread=-0.1"),
    "least": (0, "least=0"),
    "most": (2, "it must be least=3 or more"),
}


@pytest.mark.parametrize(("name", "value", "message"), [(name, *rest) for name, rest in MISTAKES.items()], ids=MISTAKES)
def test_a_setting_that_cannot_be(name: str, value: Any, message: str) -> None:
    with pytest.raises(LatencyError, match=message) as caught:
        replace(QUICK, **{name: value})
    assert caught.value.name == name


def test_a_device_without_the_arithmetic_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hiri_search.cost.latency.torch_state.has_bf16", lambda device: False)
    with pytest.raises(LatencyError, match="no arithmetic for it; write fp32"):
        measure_latencies({}, replace(QUICK, dtype="bf16"))
    with pytest.raises(LatencyError, match="tf32 is a mode of CUDA devices"):
        measure_latencies({}, replace(QUICK, dtype="tf32"))
    if not torch.cuda.is_available():
        with pytest.raises(LatencyError, match="there is no CUDA device here"):
            measure_latencies({}, replace(QUICK, device="cuda"))


def test_a_side_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(SpecError, match="the nearest is"):
        measure_latencies({"it": (SMALL, 33)}, QUICK)


@pytest.mark.parametrize("error", [AssertionError("Input height (8) doesn't match"), RuntimeError("size of tensor a")])
def test_a_network_that_cannot_make_a_pass_is_named(error: Exception) -> None:
    with pytest.raises(LatencyError, match=r"it cannot make a pass at batch 1, side 8, fp32: (Input|size)"):
        dict(measure_modules({"it": (Failing(error), 8)}, QUICK))


def test_a_network_that_cannot_be_fused_is_named() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(LatencyError, match="it: Branching cannot be fused"):
        dict(measure_modules({"it": (Branching(), 8)}, replace(QUICK, fused=True)))


# ---- on a GPU

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU = LatencyConfig(device="cuda", least=3, most=5, seconds=10.0)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize(("dtype", "most"), [("fp32", 1e-4), ("tf32", 1e-2), ("bf16", 5e-2)])
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_cuda_computes_what_the_cpu_does(dtype: Any, most: float, fused: bool) -> None:
    setting = LatencyConfig(batch=2, dtype=dtype, device="cuda", fused=fused)
    torch.manual_seed(0)
    model = build_hirivit(paper_net("hirivit_small")).eval()
    image = forward_module.noise(128, replace(setting, dtype="fp32"), CPU)
    with torch.inference_mode():
        wanted = model.double()(image.double())
    converted = forward_module.convert("S", model.float(), setting).cuda()
    with torch_configured(setting):
        found = converted(forward_module.noise(128, setting, torch.device("cuda"))).double().cpu()
    assert (found - wanted).norm() / wanted.norm() < most


@pytest.mark.gpu
@on_gpu
def test_cuda_is_timed_by_events_with_its_memory_and_clocks() -> None:
    large = _one(replace(GPU, batch=8), side=256)
    small = _one(GPU, side=32)
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
def test_a_batch_too_large_for_the_gpu_is_named_and_the_other_timed() -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        entries = {"S": (paper_net("hirivit_small"), 448), "small": (SMALL, 32)}
        found = dict(measure_latencies(entries, replace(GPU, batch=64)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert isinstance(found["S"], DoesNotFit)
    assert isinstance(found["small"], Latency)


@pytest.mark.gpu
@on_gpu
@pytest.mark.filterwarnings("ignore")  # foreign: what torch.compile says of itself
def test_more_networks_of_one_class_are_compiled_than_torch_allows_by_itself() -> None:
    entries = {width: (parse_network(f"hr({width} e=1)"), 32) for width in range(8, 28, 2)}
    found = dict(measure_latencies(entries, replace(GPU, compiled=True)))
    assert all(isinstance(one, Latency) and (one.compile_seconds or 0) > 0.1 for one in found.values())
