"""One full training: the network that a text names, its study, and the paper's row beside its result."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hiri_search.api.full_network import FullNetwork, find_network
from hiri_search.api.full_training import TrainOptions, result_line, training_study
from hiri_search.cli.main import main
from hiri_search.language import SpecError, parse_network
from hiri_search.models import SPECS
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import reproduced
from hiri_search.system.hardware import gpus
from hiri_search.user_code import import_user_code
from tests.own_code import MIX, own_kinds, write_blocks
from tests.study.provenance.folders import trained
from tests.study.waiting import wait_until
from tests.training.data.shard_files import write_shards

TINY = "hrstem(hs=8) -> hr(8 e=1) -> t(16 e=1 d=16)"
IMAGES = ("data.train=64", "data.val=32", "proxy.classes=4")
IMAGE_OPTIONS = tuple(word for each in IMAGES for word in ("--set", each))
STUDY = f"""
nets: {{tiny: "{TINY}"}}
counted: {{side: 64, classes: 1000}}
proxy: {{width: 2, side: 32, classes: 4}}
data: {{source: drawn, train: 32, val: 16}}
recipe: {{epochs: 1, batch: 16, warmup_epochs: 0}}
seeds: 1
"""
SHORT = ("--data", "drawn", "--recipe", "short", "--side", "32", "--set", "recipe.batch=16")


def _study(
    network: str, *sets: str, side: int | str | None = None, data: str = "drawn", recipe: str = ""
) -> StudyConfig:
    return training_study(find_network(network, side), TrainOptions(data, recipe, sets=sets))


def _run(network: str, results: Path, *options: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["train", network, *options, "-o", str(results)])
    return ended.value.code


def _train(network: str, results: Path, *more: str) -> int | str | None:
    return _run(network, results, *SHORT, *IMAGE_OPTIONS, *more)


@pytest.mark.parametrize(
    ("text", "side", "spec", "expected_side"),
    [
        (TINY, None, TINY, 448),
        (TINY, 64, TINY, 64),
        ("HIRI-ViT-S", None, SPECS["hirivit_small"], 448),
        ("HIRI-ViT-L @ 448", None, SPECS["hirivit_large"], 448),
        ("HIRI-ViT-S", 224, "hr(32 e=4)*2 -> hr(64 e=4)*2 -> cffn(128 e=6 s=1)*2 -> t(320 e=5)*9 -> t(512 e=5)*4", 224),
        ("Swin-T", None, "timm:swin_tiny_patch4_window7_224", 224),
        ("timm:swin_base_patch4_window12_384", None, "timm:swin_base_patch4_window12_384", 384),
        ("retinanet:timm:resnet18", None, "retinanet:timm:resnet18", "1600x1200"),
        ("upernet:timm:resnet18", 64, "upernet:timm:resnet18", 64),
    ],
)
def test_the_network_and_its_side(text: str, side: int | None, spec: str, expected_side: int | str):
    full = find_network(text, side)
    assert (full.network, full.side) == (parse_network(spec), expected_side)


@pytest.mark.parametrize(
    ("network", "side", "recipe", "table", "row"),
    [
        ("HIRI-ViT-S", None, "", "2", "HIRI-ViT-S @ 448"),
        (SPECS["hirivit_base"], None, "", "2", "HIRI-ViT-B @ 448"),
        (SPECS["hirivit_base"], 768, "imagenet_768_finetune", "3", "HIRI-ViT-B @ 768"),
        (SPECS["hirivit_base"], 256, "", "", ""),
        ("timm:swin_tiny_patch4_window7_224", None, "short", "2", "Swin-T @ 224"),
        (f"retinanet:{SPECS['hirivit_small']}", None, "", "4", "RetinaNet 1x, HIRI-ViT-S"),
        (f"cascade_rcnn:{SPECS['hirivit_small']}", None, "detection_3x", "5", "Cascade Mask R-CNN 3x, HIRI-ViT-S"),
        (TINY, None, "", "", ""),
    ],
)
def test_a_network_of_the_paper_stands_in_its_table(network: str, side: int | None, recipe: str, table: str, row: str):
    study = _study(network, side=side, recipe=recipe)
    (only,) = (study.nets or {}).values()
    assert (study.table, only.paper or "") == (table, row)


def test_it_trains_the_network_itself_once_with_the_recipe_of_the_paper():
    study = _study("HIRI-ViT-S", "recipe.epochs=100", data="timm:/data/imagenet")
    assert (study.proxy.width, study.proxy.depth, study.proxy.side) == (1, 1, 448)
    assert (study.recipe.epochs, study.recipe.batch, study.recipe.distill_alpha) == (100, 1024, 0.5)
    assert (study.seeds, study.checkpoints, study.data.source) == ((0,), "all", "timm:/data/imagenet")
    assert _study("timm:resnet18").recipe.distill_alpha == 1, "its head has no prediction for each position"
    assert _study("retinanet:timm:resnet18").recipe.epochs == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "HIRI-ViT-Z"}, "Table 2 has no network 'HIRI-ViT-Z'; write a spec, .*HIRI-ViT-"),
        ({"network": "hr(32 e=4"}, "hr"),
        ({"network": "nowhere#best"}, "nowhere holds no ledger"),
        (
            {"network": TINY, "recipe": "imagenet"},
            "no recipe imagenet; write a file, or one of detection_1x, .*imagenet_300",
        ),
        ({"network": TINY, "side": 50}, "counted.side"),
        ({"network": TINY, "data": "coco:x"}, "data.source=coco:x has no classes of images; write task: detection"),
        ({"network": "retinanet:timm:resnet18", "data": "folder:x"}, "folder:x has no targets of detection"),
    ],
)
def test_a_mistake_is_said_before_anything_is_trained(arguments: dict[str, str], message: str):
    with pytest.raises((SpecError, StudyError), match=message):
        _study(**arguments)


def test_gpus_that_are_not_there_are_refused(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["train", TINY, "--data", "drawn", "--gpus", "64"])
    assert ended.value.code == 2
    assert "--gpus 64: this machine has" in capfd.readouterr().err


@pytest.mark.skipif(gpus() > 0, reason="a GPU computes a batch in parts")
def test_a_batch_that_no_cpu_has_memory_for_is_refused(capfd: pytest.CaptureFixture[str]):
    for more in ([], ["--plan"]):
        with pytest.raises(SystemExit) as ended:
            main(["train", "HIRI-ViT-S", "--data", "drawn", "--set", "recipe.batch=100000", *more])
        assert ended.value.code == 2
        assert "recipe.batch=100000 at side 448 writes " in capfd.readouterr().err


def test_the_folder_is_named_by_the_network():
    assert FullNetwork("HIRI-ViT-S", parse_network(TINY), 448).default_folder == Path("results/train_HIRI-ViT-S")
    long = find_network(SPECS["hirivit_small"], None)
    assert long.default_folder == Path(f"results/train_{long.network.key}")


def test_a_trial_of_a_study_is_trained_in_full(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    trained(tmp_path / "search", STUDY)
    full = find_network(f"{tmp_path}/search#best", None)
    assert (str(full.network), full.side, full.name) == (TINY, 64, "search trial 0")

    assert _train(f"{tmp_path}/search#0", tmp_path / "full", "--set", "recipe.epochs=3", "--serial") == 0
    output = capfd.readouterr().out
    assert "epoch 2 of 3, " in output, "how far it is"
    (trial,) = trials(read_events(tmp_path / "full"))
    assert parse_network(trial.network.trained.spec) == parse_network(TINY), "not the stand-in"
    assert output.splitlines()[-1].endswith(f"top-1 {trial.curve[-1].scores['top1']:.2f} %")


def test_the_paper_stands_beside_the_result(tmp_path: Path):
    row = f"{{spec: '{SPECS['hirivit_small']}', paper: HIRI-ViT-S @ 448, stand_in: '{TINY}'}}"
    folder = trained(
        tmp_path / "results", "table: '2'\n" + STUDY.replace(f'"{TINY}"', row).replace("side: 64", "side: 448")
    )
    assert re.fullmatch(
        r"tiny at 448: 34.76 M params, 4.99 GFLOPs, top-1 \d+.\d\d %;"
        r" Table 2 of the paper, ImageNet-1K for 300 epochs: 34.8 M params, 5 GFLOPs, top-1 84.30 %",
        result_line(folder),
    )


def test_own_code_of_a_study_is_given_by_its_user(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    write_blocks(tmp_path, MIX)
    with own_kinds():
        trained(tmp_path / "search", "imports: [my_blocks.py]\n" + STUDY.replace(TINY, "mix(32 k=5)"))
    with own_kinds():
        assert _train(f"{tmp_path}/search#0", tmp_path / "full", "--serial") == 2
        assert "give it with --import, if you trust it" in capfd.readouterr().err
        import_user_code([str(tmp_path / "my_blocks.py")], Path())
        full = find_network(f"{tmp_path}/search#0", None)
        study = training_study(full, TrainOptions("drawn", imports=[str(tmp_path / "my_blocks.py")]))
        assert str(resolve(study).rows[0].trained) == str(full.network)


def _kill_twice_and_compare(folder: Path, network: str, *options: str) -> None:
    """Train in full, then again with two kills; compare the curves of twenty epochs."""
    options = (*options, "--set", "recipe.epochs=20")
    assert _run(network, folder / "unbroken", *options) == 0
    command = [sys.executable, "-m", "hiri_search", "train", network, *options, "-o", str(folder / "killed")]
    for epochs in (4, 11):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
        wait_until(lambda: _epochs(folder / "killed") >= epochs, alive=lambda: process.poll() is None)  # noqa: B023
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert _run(network, folder / "killed", *options) == 0
    killed, unbroken = (trials(read_events(folder / name)) for name in ("killed", "unbroken"))
    assert reproduced(killed[0].curve) == reproduced(unbroken[0].curve)
    assert len(killed) == 1
    assert len(killed[0].curve) == 20


@pytest.mark.slow
@pytest.mark.parametrize("where", [["--serial"], ["--processes", "2"]], ids=["one process", "two processes"])
def test_a_training_that_is_killed_twice_has_the_curve_of_an_unbroken_one(tmp_path: Path, where: list[str]):
    _kill_twice_and_compare(tmp_path, TINY, *SHORT, *IMAGE_OPTIONS, *where)


@pytest.mark.slow
def test_two_processes_train_on_shards(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Planned, then killed twice."""
    pytest.importorskip("webdataset", reason="webdataset is not installed: the extra wds")
    (tmp_path / "shards").mkdir()
    source = write_shards(tmp_path / "shards", train=50, val=21, step=5)
    options = (*SHORT, "--data", source, "--classes", "2", "--processes", "2")
    assert _run(TINY, tmp_path / "planned", *options, "--set", "recipe.epochs=20", "--plan") == 0
    plan = " ".join(capfd.readouterr().out.split())
    assert "a trial takes 60 steps" in plan
    assert "steps were timed with noise in the place of a stream" in plan
    _kill_twice_and_compare(tmp_path, TINY, *options)
    (trial,) = trials(read_events(tmp_path / "killed"))
    assert trial.device.startswith("2 processes by gloo")


def _epochs(folder: Path) -> int:
    return (
        len(trials(read_events(folder))[0].curve) if (folder / LEDGER).exists() and trials(read_events(folder)) else 0
    )
