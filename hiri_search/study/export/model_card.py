"""Model card of an exported network: how it is loaded, its spec, costs, result, data, recipe and provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hiri_search.language import Backbone, DenseNetwork, Network, TimmNetwork
from hiri_search.language.dense_network import height_and_width
from hiri_search.networks import is_ours_or_timms, package_of
from hiri_search.stats.significance import mean_interval, share_interval
from hiri_search.study.export.dense_export import HUB_TASKS, dense_use
from hiri_search.study.ledger.ledger import LedgerContent
from hiri_search.study.ledger.trial import Trial, training_digest
from hiri_search.study.provenance.record import Record, Source
from hiri_search.system.text import printable
from hiri_search.training.score import Score

Lines = Iterator[tuple[str, object]]
_CLASSIFICATION = "image-classification"  # in the words of the Hub
_USE = """```python
import timm{imports}

model = timm.create_model("local-dir:{folder}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
```"""
_ONNX = "`model.onnx` takes `images` (B, 3, {side}, {side}) prepared in this way, and returns `logits` ({logits})."
_FROM_BEST = (
    "the network was chosen by this score as the best of {} trials, so its validation score is too high on average"
)


@dataclass(frozen=True)
class CardFacts:
    """Facts of a trial for its model card, and the ledger that they come from."""

    name: str  # of the folder
    ledger: LedgerContent
    record: Record
    source: Source  # the study of the trial
    trial: Trial
    network: Network  # as it was trained
    ema: bool  # the weights are the averaged ones
    is_best: bool  # the trial was chosen by its score
    untrained: Sequence[str] = ()  # names of values in model.safetensors that were not trained

    @property
    def score(self) -> Score:
        """The score that judges the exported weights, on the test images where there are some."""
        headline = self.source.study.headline
        score = headline.ema if self.ema else headline
        return score.test if self.source.images.test else score


def model_card(facts: CardFacts, *, hub: bool, onnx: bool) -> str:
    """Return the card as Markdown; with `hub` with the metadata that the Hugging Face Hub reads."""
    side, classes = facts.trial.network.trained.side, facts.source.images.classes
    use = _use(facts, classes)
    logits = f"B, {classes}" + (f", {side}, {side}" if isinstance(facts.network, DenseNetwork) else "")
    sections = {
        "Use": use + ("\n\n" + _ONNX.format(side=side, logits=logits) if onnx else ""),
        "Network": _block(_network(facts)),
        "Result": _block(_result(facts)),
        "Data": _block(_data(facts)),
        "Recipe": _block(asdict(facts.source.job(facts.trial).recipe).items()),
        "Provenance": _block(_provenance(facts)),
    }
    text = "".join(f"\n## {head}\n\n{body}\n" for head, body in sections.items())
    return f"{_metadata(facts) if hub else ''}# {facts.name}\n{text}"


def _use(facts: CardFacts, classes: int) -> str:
    network, code = facts.network, _own_code(facts)
    if isinstance(network, DenseNetwork):
        imports = _registration(network.backbone)
        return dense_use(facts.name, network, classes, imports=imports, code=code, untrained=facts.untrained)
    return _USE.format(imports=_registration(network) + code, folder=facts.name)


def _registration(network: Backbone) -> str:
    """Return the import that registers a network with timm."""
    ours = not isinstance(network, TimmNetwork) or package_of(network) == "hiri_search"
    return "\nimport hiri_search.models  # registers hirivit and others with timm" if ours else ""


def _own_code(facts: CardFacts) -> str:
    """Return the imports of the study's own code, if the network needs it."""
    files = [] if is_ours_or_timms(facts.network) else facts.source.study.code.files
    return "".join(f"\nimport {Path(name).stem}  # the study's own code" for name in files)


def _block(lines: Iterable[tuple[str, object]]) -> str:
    """Return values as lines of code, where no character of a name or a path has a meaning of Markdown."""
    texts = [f"{name}: {printable(value if isinstance(value, str) else json.dumps(value))}" for name, value in lines]
    return "\n".join(["```text", *texts, "```"])


def _network(facts: CardFacts) -> Lines:
    network, trained = facts.trial.network, facts.trial.network.trained
    yield "spec", str(facts.network)
    yield "parameters", trained.params
    yield "multiply-adds", f"{trained.macs} of one image of {trained.side} x {trained.side} pixels"
    yield "classes", facts.source.images.classes
    if (network.spec, network.side) != (trained.spec, trained.side):
        height, width = height_and_width(network.side)
        costs = f"{network.params} parameters, {network.macs} multiply-adds at {width} x {height} pixels"
        yield "stand-in for", f"{network.spec} ({costs}), which was not trained"


def _result(facts: CardFacts) -> Lines:
    images = facts.source.images
    yield "weights", "the averaged (EMA) weights" if facts.ema else "those after the last step"
    scores = [score.ema if facts.ema else score for score in facts.source.study.scores]
    for score in [*scores, *(score.test for score in scores if images.test)]:
        if (value := facts.trial.curve[-1].score(score.name)) is not None:
            yield score.label, f"{score.text(value)} on {_images(facts, score)}"
    yield from _over_seeds(facts, facts.score)
    if facts.is_best:
        yield "note", _FROM_BEST.format(sum(trial.state == "finished" for trial in facts.record.trials))


def _images(facts: CardFacts, score: Score) -> str:
    count, errors = getattr(facts.source.images, score.split), facts.trial.curve[-1].standard_errors
    if not score.of_images:
        error = f" (standard error over images {score.text(errors[score.name])})" if score.name in errors else ""
        return f"{count} {score.images}{error}"
    interval = share_interval(facts.trial.curve[-1].score(score.name) or 0.0, count)
    return f"{count} {score.images} (95% interval over images {interval.low:.1f} to {interval.high:.1f})"


def _over_seeds(facts: CardFacts, score: Score) -> Lines:
    """Yield the mean of the same training with all its seeds."""
    own = facts.trial
    alike = [
        trial.curve[-1].score(score.name)
        for trial in facts.record.trials
        if trial.state == "finished"
        and (trial.network, trial.asked.confirm_epochs) == (own.network, own.asked.confirm_epochs)
    ]
    values = [value for value in alike if value is not None]
    if (interval := mean_interval(values)) is not None:
        yield f"{score.label}, mean of {len(values)} seeds", str(interval)


def _data(facts: CardFacts) -> Lines:
    data, images = facts.source.study.data, facts.source.images
    place = Path(data.path).name if data.kind in ("folder", "timm") else data.path
    yield "source", f"{data.kind}:{place}" if place else data.kind
    yield (
        "images",
        ", ".join(f"{count} {split}" for split in ("train", "val", "test") if (count := getattr(images, split))),
    )
    side = str(facts.trial.network.trained.side)
    yield "fingerprint", images.fingerprints.get(side, "unknown")


def _provenance(facts: CardFacts) -> Lines:
    trial, started = facts.trial, facts.record.started
    code = started.code
    yield "study", facts.source.study.title
    yield "trial", f"{trial.number}: {trial.network.name}, seed {trial.asked.seed}"
    yield "training", training_digest(trial)
    yield "network key", trial.network.key
    yield "ledger", f"SHA-256 {facts.ledger.sum.sha256} of {facts.ledger.sum.lines} lines"
    yield "hiri_search", f"{code.version} {code.commit or ''} {'(changed)' if code.changed else ''}".strip()
    yield "versions", ", ".join(f"{name} {version}" for name, version in started.versions.items() if version)
    yield "device", trial.device or started.device
    recipe = facts.source.job(trial).recipe
    if recipe.weights or recipe.pretrained:
        used = {name: key for name, key in started.weights.items() if recipe.pretrained or name == recipe.weights}
        yield "initial weights", ", ".join(f"{name} ({key})" for name, key in used.items())
        yield from (("adapted", line) for line in started.adapted if any(name in line for name in used))


def _metadata(facts: CardFacts) -> str:
    """Return the YAML at the head of a card of the Hub, written as JSON, which is YAML too."""
    study = facts.source.study
    headline, images, score = study.headline, facts.source.images, facts.score
    task = HUB_TASKS.get(study.task, _CLASSIFICATION)
    value = facts.trial.curve[-1].score(score.name)
    dataset = {"name": study.data.kind, "type": study.data.kind}
    dataset["split"] = "test" if images.test else "validation"
    result = {
        "task": {"type": task},
        "dataset": dataset,
        "metrics": [
            {"type": "accuracy" if headline.name == "top1" else score.name, "name": score.label, "value": value}
        ],
    }
    values: dict[str, object] = {
        "library_name": "timm",
        "pipeline_tag": task,
        "tags": [task, "timm", "hiri_search"],
        "model-index": [{"name": facts.name, "results": [result]}],
    }
    return "\n".join(["---", *(f"{key}: {json.dumps(item)}" for key, item in values.items()), "---", "", ""])
