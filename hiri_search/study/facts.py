"""What is known of a network before it is trained: what it costs, what stands in for it, what proxies say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hiri_search.cost.counts import count
from hiri_search.cost.latency import Latency, measure
from hiri_search.cost.setting import Setting
from hiri_search.language import Network
from hiri_search.study.candidates import Candidate
from hiri_search.study.config import Study
from hiri_search.training.data import Prepared
from hiri_search.training.proxies import proxy_scores, some_pictures

CHECKPOINTS = "checkpoints"
Pictures = dict[int, Prepared]  # by the side that networks see


def keys(prepared: Pictures) -> dict[str, str]:
    """What names the pictures, by side; JSON knows no numbers as keys."""
    return {str(side): pictures.folder.name for side, pictures in prepared.items()}


class Facts:
    """Of the networks of one study."""

    def __init__(self, study: Study, prepared: Pictures) -> None:
        self.study, self.prepared = study, prepared

    def of(self, candidate: Candidate) -> dict[str, Any]:
        """All that is written when it is asked for."""
        return {**costs(candidate, self.study, self.prepared), **self._timed(candidate), **self._scored(candidate)}

    def _timed(self, candidate: Candidate) -> dict[str, float | None]:
        """What a search needs to know of a network before others are asked for; disturbed by trials beside it."""
        study = self.study
        if study.space is None or not {"ms_per_image"} & {*study.search.objectives, *study.within}:
            return {}
        return {"ms_per_image": milliseconds(study, candidate.network)}

    def _scored(self, candidate: Candidate) -> dict[str, float | None]:
        """Beside the other numbers, and never used to choose."""
        names = self.study.search.proxies
        if not names or candidate.trained is None or self.study.space is None:
            return {}
        side, study = candidate.trained_side, self.study
        pictures = some_pictures(study.data, self.prepared[side], side=side, recipe=study.recipe)
        classes = len(self.prepared[side].classes)
        scores = proxy_scores(candidate.trained, pictures, classes, study.search.seed, names=names)
        return {f"proxy_{name}": score for name, score in scores.items()}


def milliseconds(study: Study, network: Network) -> float | None:
    """Measured inference of one image; None where it does not fit into memory."""
    alone = {str(network): (network, study.counted.side)}
    _, latency = next(measure(alone, study.latency or Setting(), classes=study.counted.classes))
    return latency.ms_per_image if isinstance(latency, Latency) else None


def costs(candidate: Candidate, study: Study, prepared: Pictures) -> dict[str, Any]:
    """What a network is and costs, and what is trained for it."""
    facts = {
        "name": candidate.name,
        "key": candidate.network.key,
        "spec": str(candidate.network),
        "side": candidate.side,
        **asdict(count(candidate.network, candidate.side, classes=study.counted.classes)),
    }
    if candidate.trained is None:
        return facts
    side = candidate.trained_side
    cost = count(candidate.trained, side, classes=len(prepared[side].classes))
    trained = {"spec": str(candidate.trained), "side": side, "params": cost.params, "macs": cost.macs}
    return facts | {f"trained_{name}": value for name, value in trained.items()}
