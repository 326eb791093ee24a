"""Scores of dense tasks: against a literal, slow reading of their definitions."""

from itertools import chain, product

import numpy as np
import pytest
import torch

from hiri_search.training.data.image_folder import DataError
from hiri_search.training.dense import average_precision
from hiri_search.training.dense.average_precision import DetectionMeter
from hiri_search.training.dense.confusion import SegmentationMeter
from hiri_search.training.dense.scores import DETECTION, INSTANCE_SEGMENTATION, SEGMENTATION
from hiri_search.training.dense.sources import run_lengths
from hiri_search.training.dense.sources.annotated_source import UNLABELED

IOUS = np.linspace(0.5, 0.95, 10)
SIDE = 96


# ---- average precision


def rectangles(boxes: torch.Tensor) -> torch.Tensor:
    """Masks (N, SIDE, SIDE) of boxes with whole numbers."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    left, top, right, bottom = boxes[:, :, None, None].unbind(1)
    return ((columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)).to(torch.uint8)


def random_boxes(count: int, rng: np.random.Generator) -> torch.Tensor:
    corners = rng.integers(0, SIDE - 40, (count, 2))
    return torch.from_numpy(np.hstack([corners, corners + rng.integers(4, 40, (count, 2))])).float()


def random_image(rng: np.random.Generator, classes: int = 3) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Detections and the truth of an image: some objects are found about where they are, and some are not there."""
    count = int(rng.integers(0, 6))
    boxes, labels = random_boxes(count, rng), torch.from_numpy(rng.integers(0, classes, count))
    near = (boxes + torch.from_numpy(rng.integers(-4, 5, (count, 4)))).clamp(0, SIDE)
    near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2] + 1)
    found = torch.cat([near, near, random_boxes(3, rng)])
    guesses = torch.cat([labels, labels, torch.from_numpy(rng.integers(0, classes, 3))])
    scores = torch.from_numpy(rng.permutation(len(found)) / 64 + 0.1).float()
    ignored = torch.from_numpy(rng.random(count) < 0.2)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    target = {"boxes": boxes, "labels": labels, "ignored": ignored, "area": area, "masks": rectangles(boxes)}
    masks = rectangles(found)[:, None].float()
    return {"boxes": found, "labels": guesses, "scores": scores, "masks": masks}, target


def overlap(box: list[float], other: list[float], crowd: bool) -> float:
    width, height = (min(box[i + 2], other[i + 2]) - max(box[i], other[i]) for i in (0, 1))
    both = max(width, 0) * max(height, 0)
    own, others = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return both / (own if crowd else own + others - both)


def true_objects(target: dict, label: int, low: float, high: float) -> list[tuple[list[float], bool, bool]]:
    """The objects of a class: box, whether it is a crowd, and whether it is not judged; those come last."""
    each = zip(target["boxes"].tolist(), target["labels"], target["ignored"], target["area"], strict=True)
    truth = [
        (box, bool(crowd), bool(crowd) or not low <= area <= high) for box, own, crowd, area in each if own == label
    ]
    return sorted(truth, key=lambda entry: entry[2])


def judged(found: dict, truth: list, label: int, threshold: float, low: float, high: float) -> list[tuple[float, bool]]:
    """The score of each judged detection of a class in an image, and whether it is right."""
    taken, results = set(), []
    for index in [i for i in found["scores"].argsort(descending=True).tolist() if found["labels"][i] == label]:
        box, match, best = found["boxes"][index].tolist(), None, threshold - 1e-10
        for number, (other, crowd, outside) in enumerate(truth):
            free = (number not in taken or crowd) and not (match is not None and not truth[match][2] and outside)
            if free and overlap(box, other, crowd) >= best:
                match, best = number, overlap(box, other, crowd)
        taken.add(match)
        in_range = low <= (box[2] - box[0]) * (box[3] - box[1]) <= high
        if in_range if match is None else not truth[match][2]:
            results.append((float(found["scores"][index]), match is not None))
    return results


def interpolated(results: list[tuple[float, bool]], positives: int) -> float:
    """The mean of the best precision at each of 101 recalls."""
    hits = [hit for _, hit in sorted(results, key=lambda each: -each[0])]
    points = [(sum(hits[:n]) / n, sum(hits[:n]) / positives) for n in range(1, len(hits) + 1)]
    return float(np.mean([max((p for p, r in points if r >= level), default=0) for level in np.linspace(0, 1, 101)]))


def literal_ap(images: list, low: float = 0, high: float = 1e10, ious: np.ndarray = IOUS) -> float:
    """AP as COCO has it, one class, threshold, image and detection after the other."""
    values = []
    for label, threshold in product(range(3), ious):
        truths = [true_objects(target, label, low, high) for _, target in images]
        pairs = zip(images, truths, strict=True)
        results = [judged(found, truth, label, threshold, low, high) for (found, _), truth in pairs]
        if positives := sum(not outside for truth in truths for *_, outside in truth):
            values.append(interpolated(list(chain.from_iterable(results)), positives))
    return 100 * float(np.mean(values))


@pytest.fixture
def images() -> list:
    rng = np.random.default_rng(5)
    return [random_image(rng) for _ in range(12)]


def measured(images: list, *, masks: bool = False) -> DetectionMeter:
    pytest.importorskip("faster_coco_eval", reason="the extra `dense` is not installed")
    meter = DetectionMeter(masks=masks)
    for found, target in images:
        meter.add([found], [target])
    return meter


def test_ap_is_that_of_a_literal_reading(images: list):
    scores = measured(images).scores()
    assert scores["ap"] == pytest.approx(literal_ap(images), abs=1e-6)
    assert scores["ap50"] == pytest.approx(literal_ap(images, ious=IOUS[:1]), abs=1e-6)
    assert scores["ap75"] == pytest.approx(literal_ap(images, ious=IOUS[5:6]), abs=1e-6)
    assert scores["ap_small"] == pytest.approx(literal_ap(images, high=32**2), abs=1e-6)
    assert scores["ap_medium"] == pytest.approx(literal_ap(images, low=32**2, high=96**2), abs=1e-6)
    assert 10 < scores["ap"] < 90
    assert "ap_large" not in scores  # there is no such object


def test_mask_ap_of_rectangles_is_that_of_their_boxes(images: list):
    scores = measured(images, masks=True).scores()
    assert set(scores) == {score.name for score in INSTANCE_SEGMENTATION.scores} - {"ap_large"}
    for name in ("ap", "ap50", "ap75"):
        assert scores[f"mask_{name}"] == pytest.approx(scores[name])


def test_perfect_detections_score_100_and_none_score_0(images: list):
    perfect = [
        ({name: target[name] for name in ("boxes", "labels")} | {"scores": torch.ones(len(target["labels"]))}, target)
        for _, target in images
    ]
    nothing = [({name: values[:0] for name, values in found.items()}, target) for found, target in images]
    assert measured(perfect).scores()["ap"] == pytest.approx(100)
    assert set(measured(nothing).scores().values()) == {0}


def test_detections_that_are_not_finite_do_not_count(images: list):
    def with_more(found: dict, box: float, score: float) -> dict:
        more = {"boxes": torch.full((1, 4), box), "scores": torch.tensor([score]), "labels": torch.tensor([0])}
        return {name: torch.cat([values, found[name]]) for name, values in more.items()}

    broken = [(with_more(with_more(found, float("nan"), 1), 3, float("nan")), target) for found, target in images]
    assert measured(broken).scores() == measured(images).scores()


def test_the_standard_error_of_ap_is_that_of_whole_evaluations(images: list):
    errors = measured(images).standard_errors(resamples=8, seed=1)
    chosen: list[np.ndarray] = []
    average_precision.bootstrap_errors(lambda indices: chosen.append(indices) or {}, len(images), 8, 1)
    repeated = [measured([images[i] for i in indices]).scores()["ap"] for indices in chosen]
    assert errors["ap"] == pytest.approx(np.std(repeated, ddof=1))
    assert errors["ap"] > 0


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, images: list):
    meter = DetectionMeter(masks=False)
    meter.add(*zip(images[0], strict=True))
    monkeypatch.setattr(run_lengths, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(DataError, match=r"hiri-search\[dense\]"):
        meter.scores()


# ---- mIoU


def test_miou_and_pixel_accuracy_are_those_of_sets_of_pixels():
    rng = np.random.default_rng(2)
    meter = SegmentationMeter()
    truth = torch.from_numpy(rng.integers(0, 4, (3, 8, 9)))  # class 4 is predicted only, class 5 nowhere
    truth[rng.random((3, 8, 9)) < 0.2] = UNLABELED
    logits = torch.from_numpy(rng.normal(size=(3, 6, 8, 9)))
    logits[:, 5] = -9
    meter.add(logits, [{"semantic": each} for each in truth])
    right, ious = 0, []
    places = [place for place in np.ndindex(3, 8, 9) if truth[place] != UNLABELED]
    for label in range(5):
        true = {place for place in places if truth[place] == label}
        found = {place for place in places if logits.argmax(1)[place] == label}
        right += len(true & found)
        ious.append(len(true & found) / len(true | found))
    assert meter.scores() == pytest.approx({"miou": 100 * np.mean(ious), "pixel_accuracy": 100 * right / len(places)})


def test_images_that_are_alike_have_no_standard_error():
    meter = SegmentationMeter()
    for _ in range(5):
        meter.add(torch.eye(3)[None, :, :, None], [{"semantic": torch.tensor([[0], [1], [1]])}])
    assert meter.standard_errors(resamples=10) == pytest.approx({"miou": 0, "pixel_accuracy": 0})


@pytest.mark.parametrize("task", [DETECTION, INSTANCE_SEGMENTATION, SEGMENTATION])
def test_a_task_names_its_scores(task):
    names = [score.name for score in task.scores]
    assert len({*names}) == len(names)
    assert {name for pair in task.ordered for name in pair} <= set(names)
    assert all(score.unit == "%" and score.low == 0 and score.high == 100 for score in task.scores)
    task.meter()
