"""User mistakes: exit code 2, and a short message with the place, what was found and what to write instead."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from hiri_search.cli.main import main
from hiri_search.language import parse_net
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.study.config.read import read_study
from hiri_search.study.ledger.events import RunEnded, TrialPromoted
from tests.study.records import study_started, write_ledger

ROOT = Path(__file__).parents[2]
MAX_MESSAGE_LINES = 6
STUDY = """\
title: A study
let: {start: "hr(32 e=4) -> hr(64 e=4)"}
nets:
  one: start -> t(128 e=2)
  two: start -> cffn(128 e=2)
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 2}
data: {source: drawn, train: 64, val: 32}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0}
profiles:
  quick:
    recipe: {epochs: 1}
"""
SPACE = STUDY.replace("nets:\n  one:", "space:").replace("  two: start -> cffn(128 e=2)\n", "search: {networks: 2}\n")

# ---- networks and spaces

SPECS = {
    "nothing": ("", "unexpected end of spec; expected a stem, a stage, a let name or a group"),
    "two arrows": ("hr(32 e=4) -> -> t(64 e=4)", "unexpected '->'; expected a stem, a stage, a let name or a group"),
    "no end": ("hr(32 e=4", "unexpected end of spec; expected an argument or )"),
    "unknown kind": ("hrr(32 e=4)", "unknown name hrr; did you mean hr?"),
    "unknown argument": ("hr(32 e=4 q=2)", "hr has no argument q"),
    "missing argument": ("hr(32)", "this hr has no expansion (e)"),
    "a space": ("hr(32 e=4|6)", "this spec describes 2"),
    "out of bounds": ("hr(32 e=0)", "e=0 is not supported"),
}


@pytest.mark.parametrize(("spec", "expected"), SPECS.values(), ids=SPECS)
def test_a_wrong_spec(spec: str, expected: str, capfd: pytest.CaptureFixture[str]):
    assert expected in _mistake(capfd, "count", spec)


COUNTS = {
    "side that does not fit": (("count", "hr(32 e=4) -> t(64 e=4)", "--side", "100"), "the nearest is 96 or 104"),
    "side 0": (("count", "hr(32 e=4)", "--side", "0"), "Invalid value for '--side': "),
    "side in words": (("count", "hr(32 e=4)", "--side", "big"), "Invalid value for '--side': "),
    "unknown option": (("count", "hr(32 e=4)", "--sides", "64"), "No such option: --sides"),
    "unknown command": (("counts",), "No such command 'counts'"),
    "nothing to count": (("count",), "Missing argument 'network'"),
    "unknown timm network": (("count", "timm:resnet5"), "timm "),
    "side timm cannot take": (("count", "timm:maxvit_tiny_tf_224", "--side", "230"), "takes no inputs of 230 pixels"),
    "unknown table": (("paper", "10"), "there is no table '10'; choose one of 1, 2, 3"),
    "two formats": (("paper", "8", "--csv", "--latex"), "write one of --csv and --latex"),
    "latency at no side": (("latency", "hr(32 e=4)@x"), "'x' is not a side; write pixels after @"),
    "latency dtype": (("latency", "hr(32 e=4)", "--dtype", "fp16"), "it must be one of fp32, tf32, bf16"),
    "latency at a wrong side": (("latency", "hr(32 e=4)@50"), "side 50 does not fit"),
    "no study": (("run", "nowhere.yaml"), "nowhere.yaml cannot be read: No such file"),
    "no name of a study": (
        ("run", "nowhere"),
        "there is no study nowhere; write the path of a file, or one of ablation_ladder",
    ),
    "a negative width": (("count", "hr(32 e=-4)"), "numbers have no sign"),
    "a folder for a study": (("run", "."), ". cannot be read: Is a directory"),
    "no ledger": (("report", "."), ". holds no ledger.jsonl; give the folder of a study"),
    "no ledger to export": (("dashboard", "."), ". holds no ledger.jsonl; give the folder of a study"),
    "negative limit": (("list", "space.yaml", "--limit", "-1"), "Invalid value for '--limit': "),
}


@pytest.mark.parametrize(("command", "expected"), COUNTS.values(), ids=COUNTS)
def test_a_wrong_command(
    command: tuple[str, ...],
    expected: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert expected in _mistake(capfd, *command)


SPACES = {
    "no space": ("title: x\n", "space.yaml: space is missing"),
    "unknown key": ("spcae: hr(32 e=4)\n", "space.yaml:1: spcae is not known; did you mean space?"),
    "written twice": ("title: x\nspace: hr(32 e=4) | hr(32 e=4)\n", "space.yaml:2: space: "),
    "a let that contains itself": ("let: {a: b, b: a}\nspace: a\n", "a contains itself: a -> b -> a"),
    "a list": ("- hr(32 e=4)\n", "space.yaml holds no mapping"),
    "not text": (b"\xff\xfe\xfd", "it is not UTF-8 text"),
}


@pytest.mark.parametrize(("text", "expected"), SPACES.values(), ids=SPACES)
def test_a_wrong_space_file(text: str | bytes, expected: str, capfd: pytest.CaptureFixture[str], tmp_path: Path):
    file = tmp_path / "space.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert expected in _mistake(capfd, "list", str(file))


# ---- study files: each case replaces text of STUDY, and gives the line number that the message must contain

STUDIES = {
    "not YAML": ("proxy: {", "proxy: [", 7, "this is not YAML: while parsing a flow sequence, expected ',' or ']'"),
    "a tab": ("  one:", "\tone:", 4, "this is not YAML: while scanning for the next token, found character"),
    "a control character": (
        "A study",
        "A \x00 study",
        None,
        "this is not YAML: special characters are not allowed ('\\x00')",
    ),
    "two documents": (
        "proxy:",
        "---\nproxy:",
        7,
        "this is not YAML: expected a single document in the stream, but found",
    ),
    "a tag": ("batch: 16", "batch: !!int many", 9, "'many' cannot be read as int; remove the tag"),
    "another tag": (
        "batch: 16",
        "batch: !!python/object:os.system {}",
        9,
        "the tag tag:yaml.org,2002:python/object:os.system is not supported",
    ),
    "repeated key": ("profiles:", "proxy: {side: 64}\nprofiles:", 10, "duplicate key 'proxy', first in line 7"),
    "repeated net": ("  two:", "  one:", 5, "duplicate key 'one', first in line 4"),
    "too deep": ("A study", "[" * 3000 + "]" * 3000, None, "more than 50 nested mappings or lists"),
    "circle of aliases": ("title: A study", "title: &a [*a]", 1, "more than 50 nested mappings or lists"),
    "unknown key": ("recipe:", "recipy:", 9, "recipy is not known; did you mean recipe?"),
    "unknown nested key": ("epochs: 1,", "epoch: 1,", 9, "recipe.epoch is not known; did you mean epochs?"),
    "unknown key of a net": ("start -> t(128 e=2)", "{spc: start}", 4, "spc is not known; did you mean spec?"),
    "words for a number": ("epochs: 1,", "epochs: many,", 9, "recipe.epochs: found 'many'; write a whole number"),
    "half an epoch": ("epochs: 1,", "epochs: 1.5,", 9, "recipe.epochs: found 1.5; write a whole number"),
    "nothing under a key": ("recipe: {", "recipe:\nstorage: {", 9, "recipe: found nothing; write `key: value` lines"),
    "a number for a section": ("recipe: {", "recipe: 3\n#", 9, "recipe: found 3; write `key: value` lines under it"),
    "not finite": ("batch: 16", "lr: inf", 9, "recipe.lr=inf is not possible; it must be more than 0"),
    "odd batch": ("batch: 16", "batch: 15", 9, "recipe.batch=15 is not possible; it must be even"),
    "long warm-up": ("warmup_epochs: 0", "warmup_epochs: 1", 9, "recipe.warmup_epochs=1.0 is not possible; it"),
    "batch over data.train": ("batch: 16", "batch: 80", 9, "recipe.batch=80 is more than data.train=64"),
    "old name of a key": (
        "title:",
        "search: {proxies: [zen]}\ntitle:",
        1,
        "search.proxies is not known; did you mean zero_cost?",
    ),
    "unknown sampler": ("title:", "search: {sampler: best}\ntitle:", 1, "found 'best'; write 'surrogate', 'evolution'"),
    "no seeds": ("title:", "seeds: 0\ntitle:", 1, "seeds: 0 is not a valid number of seeds; write 1 to 100"),
    "a year of seeds": ("title:", "seeds: 2024\ntitle:", 1, "or a list: [2024]"),
    "repeated seed": ("title:", "seeds: [1, 1]\ntitle:", 1, "a list without repeats"),
    "a rule without pairs": (
        "title:",
        "seeds: auto\ntitle:",
        1,
        "write compare: and the row that the others are compared",
    ),
    "a misspelt rule": ("title:", "seeds: {mots: 9}\ntitle:", 1, "seeds.mots is not known; did you mean most?"),
    "a rule that adds nothing": (
        "title:",
        "seeds: {most: 3}\ntitle:",
        1,
        "seeds.most=3 adds no seed to the first 3; write",
    ),
    "one first seed": ("title:", "seeds: {first: 1}\ntitle:", 1, "seeds.first=1 has no spread; write 2 or more"),
    "no time": ("title:", "seeds: {minutes: 0}\ntitle:", 1, "seeds.minutes: found 0; write more than 0.0"),
    "unknown compare": ("title:", "compare: first\ntitle:", 1, "'first' is not known; write one of best, steps, one"),
    "a base that is not trained": (
        "  two: start -> cffn(128 e=2)\n",
        "  two: {spec: start -> cffn(128 e=2), train: false}\ncompare: two\n",
        6,
        "compare='two' is a row that is not trained; write one that is",
    ),
    "nets and space": ("counted:", "space: start\ncounted:", 6, "either nets: (an ablation) or space: (a search)"),
    "neither nets nor space": ("nets:", "profile:", 3, "profile is not known; did you mean profiles?"),
    "bad spec": ("t(128 e=2)", "tt(128 e=2)", 4, "nets.one: unknown name tt; did you mean t?"),
    "bad spec in a let": ("hr(64 e=4)", "hr(64)", 4, "in let start"),
    "unknown let": ("one: start", "one: stat", 4, "unknown name stat; did you mean start?"),
    "counted side": ("{side: 64, c", "{side: 50, c", 6, "counted.side for nets.one: side 50 does not fit"),
    "proxy side": ("side: 32", "side: 36", 7, "proxy.side for nets.one: side 36 does not fit"),
    "proxy width": ("width: 4", "width: 3", 7, "cannot be divided by 3"),
    "side too large": ("side: 32", "side: 999999", 7, "proxy.side: found 999999; write 8192 or less"),
    "unknown source": ("source: drawn", "source: images", 8, "data.source='images' is not known; write drawn, "),
    "no training images": ("train: 64", "train: 0", 8, "data.train=0 is not possible; it must be at least 1"),
    "negative data seed": ("train: 64", "seed: -1", 8, "data.seed=-1 is not possible; it must be 0 or more"),
    "unknown network of timm": ("start -> t(128 e=2)", "timm:swin_tinny", 4, "has no network 'swin_tinny'; did you"),
    "no name for timm": ("start -> t(128 e=2)", '"timm:"', 4, "has no valid model name; write timm:NAME"),
    "bad timm argument": ("start -> t(128 e=2)", "timm:resnet18 x", 4, "'x' is not a valid argument; write timm:NAME"),
    "weights of timm": (
        "start -> t(128 e=2)",
        "timm:resnet18 pretrained=true",
        4,
        "write recipe.pretrained or recipe.",
    ),
    "a tag of timm": (
        "start -> t(128 e=2)",
        "timm:resnet18.a1_in1k",
        4,
        "write timm:resnet18, and recipe.pretrained=a1",
    ),
    "pretrained in the language": (
        "{epochs: 1, batch",
        "{pretrained: true, epochs: 1, batch",
        4,
        "nets.one.recipe.pretrained: timm has no weights for 'hrstem",
    ),
    "two sets of weights": (
        "{epochs: 1, batch",
        "{pretrained: true, weights: w.pth, epochs: 1, batch",
        9,
        "recipe.pretrained beside weights=w.pth; leave one of them out",
    ),
    "unknown stand-in": ("start -> t(128 e=2)", "{spec: start, stand_in: tt(8)}", 4, "nets.one.stand_in: unknown name"),
    "no stand-in of timm": (
        "start -> t(128 e=2)",
        "{spec: start, stand_in: timm:resnet}",
        4,
        "nets.one.stand_in: timm",
    ),
    "side of a row": ("start -> t(128 e=2)", "{spec: start, side: 50}", 4, "nets.one.side: side 50 does not fit"),
    "side of a stand-in": (
        "start -> t(128 e=2)",
        "{spec: start, stand_in_side: 50}",
        4,
        "nets.one.stand_in_side: side 50 does not fit",
    ),
    "no whole side": (
        "start -> t(128 e=2)",
        "{spec: timm:resnet18, side: 33}",
        7,
        "proxy.side for nets.one: the training side would be 33 * 32 / 64, which is not a whole number",
    ),
    "a teacher of timm": (
        "start -> t(128 e=2)",
        "{spec: timm:resnet18, recipe: {distill_alpha: 0.5}}",
        4,
        "cannot be trained with distillation",
    ),
    "a teacher that is not there": ("batch: 16", "batch: 16, ema: 0, distill_alpha: 0.5", 9, "needs a teacher, the"),
    "recipe of a row": ("start -> t(128 e=2)", "{spec: start, recipe: {epoch: 3}}", 4, "nets.one.recipe.epoch is not"),
    "no recipe file": ("recipe: {", "recipe: short.yaml\n#", 9, "short.yaml; write the keys of a recipe, or a file"),
    "nothing trained": (
        "  one: start -> t(128 e=2)\n  two: start -> cffn(128 e=2)",
        "  one: {spec: start, train: false}",
        3,
        "no row is trained; remove `train: false`",
    ),
    "latency of no type": ("title:", "latency: {dtype: fp16}\ntitle:", 1, "latency.dtype: found 'fp16'; write 'fp32'"),
    "latency of nobody": ("title:", "latency: {batch: 0}\ntitle:", 1, "latency.batch=0 is not possible; it must be 1"),
    "latency for ever": ("title:", "latency: {seconds: inf}\ntitle:", 1, "latency.seconds=inf is not possible"),
    "unknown key of latency": (
        "title:",
        "latency: {repeats: 5}\ntitle:",
        1,
        "latency.repeats is not known; the keys here are",
    ),
    "profiles of words": (
        "  quick:\n    recipe: {epochs: 1}",
        "  quick: fast",
        10,
        "profiles: must hold `name:` lines",
    ),
}


@pytest.mark.parametrize(("old", "new", "line", "expected"), STUDIES.values(), ids=STUDIES)
def test_a_wrong_study(
    old: str, new: str, line: int | None, expected: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    assert old in STUDY
    file = _written(tmp_path, STUDY.replace(old, new, 1))
    message = _refused(capfd, tmp_path, "run", str(file))
    assert expected in message
    assert f"{file}:{line}: " in message if line else str(file) in message


WEIGHTS: dict[str, tuple[str, Callable[[Path], object] | None, str]] = {
    "a missing file": (
        STUDY,
        None,
        "w.pth': No such file or directory; write the path of a checkpoint, such as last",
    ),
    "a folder": (STUDY, Path.mkdir, "w.pth is a folder; write the path of a state dict, alone or in a checkpoint"),
    "no checkpoint": (STUDY, lambda path: path.write_text("w"), "w.pth is damaged, or is no such file; write the path"),
    "no weights": (STUDY, lambda path: torch.save({"lr": 1}, path), "w.pth holds values that are no weights: lr; "),
    "those of another row": (
        STUDY,
        lambda path: _save_stand_in("hr(32 e=4) -> hr(64 e=4) -> t(128 e=2)", path),
        "two: recipe.weights={path} holds another network's weights; missing there: stages.2.blocks.0.norm.weight, ",
    ),
    "those of one network of a space": (
        SPACE.replace("e=2)", "e=2|3)", 1),
        lambda path: _save_stand_in("hr(32 e=4) -> hr(64 e=4) -> t(128 e=2)", path),
        "t(128 e=3): recipe.weights={path} holds another network's weights; of another shape: stages.2",
    ),
}


@pytest.mark.parametrize(("study", "write", "expected"), WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("options", [("--serial",), ("--serial", "--plan")], ids=["run", "plan"])
def test_wrong_initial_weights(
    study: str,
    write: Callable[[Path], object] | None,
    expected: str,
    options: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    path = tmp_path / "w.pth"
    if write:
        write(path)
    command = ("run", str(_written(tmp_path, study)), "--set", f"recipe.weights={path}", *options)
    message = _refused(capfd, tmp_path, *command)
    assert expected.format(path=path) in message


def _save_stand_in(spec: str, path: Path) -> None:
    net = parse_net(spec).scaled_down(width=4, depth=1)
    torch.save(build_hirivit(net, classes=2).state_dict(), path)


SETS = {
    "no value": ("recipe.epochs", "write key=value, such as --set recipe.epochs=20"),
    "no key": ("=3", "write key=value"),
    "two dots": ("recipe..epochs=3", "write key=value"),
    "not YAML": ("recipe.epochs=[3", "--set recipe.epochs=[3: this is not YAML"),
    "unknown key": ("recipe.epoch=3", "--set recipe.epoch=3: recipe.epoch is not known; did you mean epochs?"),
    "unknown section": ("recipes.epochs=3", "--set recipes.epochs=3: recipes is not known; did you mean recipe?"),
    "wrong type": ("recipe.epochs=many", "--set recipe.epochs=many: recipe.epochs: found 'many'; write a whole"),
    "out of bounds": ("recipe.lr=-1", "--set recipe.lr=-1: recipe.lr=-1.0 is not possible"),
    "a side": ("proxy.side=36", "--set proxy.side=36: proxy.side for nets.one: side 36 does not fit"),
    "a profile": ("profiles.quick.seeds=3", "choose one with --profile"),
    "a spec": ("nets.one=tt(3)", "--set nets.one=tt(3): nets.one: unknown name tt"),
}


@pytest.mark.parametrize(("text", "expected"), SETS.values(), ids=SETS)
def test_a_wrong_set_option(text: str, expected: str, capfd: pytest.CaptureFixture[str], tmp_path: Path):
    file = _written(tmp_path, STUDY)
    assert expected in _refused(capfd, tmp_path, "run", str(file), "--set", text)


def test_an_unknown_profile(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    file = _written(tmp_path, STUDY)
    message = _refused(capfd, tmp_path, "run", str(file), "--profile", "quik")
    assert f"{file}:10: there is no profile 'quik'; choose one of quick, none" in message


def test_a_mistake_in_a_profile_is_reported_with_its_line(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    file = _written(tmp_path, STUDY.replace("    recipe: {epochs: 1}", "    recipe: {epochs: 0}"))
    message = _refused(capfd, tmp_path, "run", str(file), "--profile", "quick")
    assert f"{file}:12: recipe.epochs=0 is not possible" in message


def test_a_mistake_in_a_space_file_is_reported_with_that_file(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("title: x\nspace: tt(3)\n")
    file = _written(tmp_path, "space: mine.yaml\n")
    assert f"{tmp_path}/mine.yaml:2: space: unknown name tt" in _refused(capfd, tmp_path, "run", str(file))


def test_a_network_of_a_space_that_does_not_fit(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    file = _written(tmp_path, SPACE.replace("t(128 e=2)", "t(128 e=2 d=64|2)"))
    message = _refused(capfd, tmp_path, "run", str(file))
    assert "study.yaml:6: proxy.width for space: d=2 cannot be divided by 4" in message


# ---- images: each case damages a valid image folder

IMAGES = {
    "no folder": (lambda root: _remove(root), "images does not exist; folder:PATH must be a folder, .tar or .zip with"),
    "no train": (lambda root: (root / "train").rename(root / "tain"), "has no train/ with a folder for each class"),
    "empty val": (lambda root: _remove(root / "val", keep=True), "has no val/ with a folder for each class"),
    "empty class": (lambda root: _remove(root / "train/cat", keep=True), "class 'cat' has no image in train/"),
    "class not in val": (lambda root: _remove(root / "val/cat"), "class 'cat' has no image in val/; add some or"),
    "one class": (
        lambda root: (_remove(root / "val/cat"), _remove(root / "train/cat")),
        "of 1 class(es) in train/ (dog); proxy.classes=2",
    ),
    "corrupt": (
        lambda root: (root / "train/cat/1.png").write_bytes(b"x"),
        "images: train/cat/1.png cannot be read as an image",
    ),
    "empty": (
        lambda root: (root / "val/dog/1.png").write_bytes(b""),
        "val/dog/1.png cannot be read as an image (the file is empty)",
    ),
    "no archive": (
        lambda root: (_remove(root), root.write_text("text")),
        "images is neither a folder nor an archive that can be opened",
    ),
    "two sets": (lambda root: _images(root / "more"), "more than one set of images (train and more/train)"),
}


@pytest.mark.parametrize(("damage", "expected"), IMAGES.values(), ids=IMAGES)
def test_wrong_images(damage, expected: str, capfd: pytest.CaptureFixture[str], tmp_path: Path):
    root = tmp_path / "images"
    _images(root)
    damage(root)
    message = _refused(capfd, tmp_path, "run", str(_written(tmp_path, _with_folder(root))), "--serial")
    assert expected in message
    assert str(root) in message


IMAGE_SETTINGS = {
    "batch over the images": ("recipe.batch=18", "recipe.batch=18 is more than the 16 training images"),
    "more classes than there are": ("proxy.classes=3", "of 2 class(es) in train/ (cat, dog); proxy.classes=3 is more"),
    "more classes than motifs": (
        "data={source: drawn}",
        "proxy.classes=40: synthetic images (source: drawn) have at most 12 classes",
    ),
    "unknown policy": ("recipe.auto_augment=best", "recipe.auto_augment: timm knows no policy 'best'; write one such"),
    "unknown set of timm": ("data.source=timm:torch/cifar", "timm cannot open 'torch/cifar' (AssertionError: Unknown"),
    "timm without a root": (
        "data.source=timm:torch/cifar10",
        "timm: must name a folder with train/CLASS/*.jpg and val/",
    ),
}


@pytest.mark.parametrize(("text", "expected"), IMAGE_SETTINGS.values(), ids=IMAGE_SETTINGS)
def test_settings_that_do_not_fit_the_images(
    text: str, expected: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    _images(tmp_path / "images")
    file = _written(tmp_path, _with_folder(tmp_path / "images"))
    classes = ("--set", "proxy.classes=40") if "drawn" in text else ()
    assert expected in _refused(capfd, tmp_path, "run", str(file), "--serial", "--set", text, *classes)


# ---- results folders


def test_a_ledger_with_a_broken_line(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    file, ledger = _written(tmp_path, STUDY), _ledger(tmp_path)
    ledger.write_text(ledger.read_text() + '{"event": "timed", "ke\n{"event": "promoted", "trial": 1}\n')
    expected = f"{ledger}:3: this line cannot be read: Invalid JSON"
    for command in (("run", str(file), "--results", str(ledger.parent)), ("report", str(ledger.parent))):
        before = ledger.read_bytes()
        assert expected in _mistake(capfd, *command)
        assert ledger.read_bytes() == before


def test_a_ledger_that_lacks_a_line(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    ledger = _ledger(tmp_path)
    write_ledger(ledger.parent, [study_started(), TrialPromoted(trial=0)])
    assert "ledger.jsonl:3: trial 0 was never asked for" in _mistake(capfd, "report", str(ledger.parent))


def test_another_study_in_the_same_folder(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    file, ledger = _written(tmp_path, STUDY), _ledger(tmp_path)
    write_ledger(ledger.parent, [study_started(read_study(file))])
    message = _refused(capfd, tmp_path, "run", str(file), "--set", "recipe.epochs=3", keep=True)
    assert "belongs to another study" in message
    assert "recipe.epochs: 1 -> 3" in message
    assert "--fresh" in message


def test_a_file_as_results_folder(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    file = _written(tmp_path, STUDY)
    assert "cannot hold results (File exists)" in _mistake(capfd, "run", str(file), "--results", str(file))


def test_a_process_prints_the_same_message(tmp_path: Path):
    file = _written(tmp_path, STUDY.replace("batch: 16", "batch: 15"))
    finished = subprocess.run([sys.executable, "run_study.py", str(file)], cwd=ROOT, capture_output=True, text=True)
    message = f"error: {file}:9: recipe.batch=15 is not possible; it must be even and more than 0:"
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.startswith(message)
    assert len(finished.stderr.splitlines()) == 1


# ---- helpers


def _mistake(capfd: pytest.CaptureFixture[str], *command: str) -> str:
    """Run a wrong command and return its message."""
    with pytest.raises(SystemExit) as caught:
        main(list(command))
    message = capfd.readouterr().err
    assert caught.value.code == 2
    assert 0 < len(message.splitlines()) <= MAX_MESSAGE_LINES
    assert "Traceback" not in message
    return message


def _refused(capfd: pytest.CaptureFixture[str], home: Path, *command: str, keep: bool = False) -> str:
    """Run a wrong command on a results folder, check that its ledger does not change, and return the message."""
    ledger = home / "results" / "ledger.jsonl" if keep else _ledger(home)
    before = ledger.read_bytes()
    message = _mistake(capfd, *command, "--results", str(ledger.parent))
    assert ledger.read_bytes() == before
    return message


def _written(home: Path, text: str) -> Path:
    file = home / "study.yaml"
    file.write_text(text)
    return file


def _ledger(home: Path) -> Path:
    ledger = home / "results" / "ledger.jsonl"
    ledger.parent.mkdir()
    write_ledger(ledger.parent, [RunEnded(seconds={})])
    return ledger


def _with_folder(root: Path) -> str:
    return STUDY.replace("{source: drawn, train: 64, val: 32}", f"folder:{root}")


def _images(root: Path) -> None:
    """Write 8 training and 2 validation images for each of two classes."""
    for index, (split, name) in enumerate([(s, n) for s in ("train", "val") for n in ("cat", "dog")]):
        (root / split / name).mkdir(parents=True)
        for number in range(8 if split == "train" else 2):
            Image.new("RGB", (40, 36), (60 * index, 20 * number, 9)).save(root / split / name / f"{number}.png")


def _remove(folder: Path, *, keep: bool = False) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if not keep:
        folder.rmdir()
