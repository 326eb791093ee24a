"""Initial weights of a study's trainings (`weights` and `pretrained` of a recipe), checked before the first one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hiri_search.language import Network, SpecError
from hiri_search.nets.weights_file import Weights, WeightsError
from hiri_search.networks import build_on_meta
from hiri_search.study.config.networks import Candidate
from hiri_search.study.errors import StudyError
from hiri_search.study.search.network_facts import PreparedBySide
from hiri_search.system.files import Say, expanded
from hiri_search.training.recipe import Recipe
from hiri_search.training.state import initial_weights
from hiri_search.weights import fitted


@dataclass(frozen=True)
class InitialWeights:
    """Weights that trainings begin from."""

    setting: str  # of the recipe, with the file or the network of timm
    fingerprint: str
    classes: int | None  # of their last layer; 0: there is none; None: only backbones begin from them
    note: str = ""  # a sentence on what a training from them differs in
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)  # what does not begin from them, by network


def check_weights(candidates: Iterable[Candidate], say: Say = lambda text: None) -> dict[str, InitialWeights]:
    """Return the initial weights by name: the path of a file, or a network of timm with the tag of its weights.

    StudyError where weights cannot be had, or do not fit a network that is trained from them.
    """
    read, checked = dict[object, Weights](), dict[str, InitialWeights]()
    for candidate in candidates:
        recipe, network, side = candidate.recipe, candidate.trained, candidate.trained_side
        if network is None or not (recipe.weights or recipe.pretrained):
            continue
        if (key := recipe.weights or (network, recipe.pretrained)) not in read:
            read[key] = _read(network, recipe, say)
        weights, model = read[key], build_on_meta(network, side)
        try:
            result = fitted(weights, network, side, model)
        except WeightsError as error:
            raise StudyError(f"{candidate.name}: recipe.{error}") from error
        known = checked.get(weights.name) or InitialWeights(
            weights.setting, weights.fingerprint, result.classes, weights.note
        )
        remarks = known.remarks | ({candidate.name: result.remarks} if result.remarks else {})
        classes = result.classes if known.classes is None else known.classes
        checked[weights.name] = replace(known, classes=classes, remarks=remarks)
    return checked


def fingerprints_by_name(weights: Mapping[str, InitialWeights]) -> dict[str, str]:
    """Return the fingerprint of all weights by name, as a ledger records them."""
    return {name: each.fingerprint for name, each in weights.items()}


def adaptations(weights: Mapping[str, InitialWeights], prepared: PreparedBySide) -> Iterator[str]:
    """Yield a sentence for all weights from which a network does not begin as a whole, or that timm has adapted."""
    classes = len(next(iter(prepared.values())).classes)  # the same at every side
    for each in weights.values():
        if (found := each.classes) not in (classes, None):
            known = f"has a last layer for {found} classes" if found else "has no last layer"
            yield f"recipe.{each.setting} {known}; a new one begins for {classes}"
        if each.note:
            yield each.note
        yield from (f"{name}: recipe.{each.setting}: {'; '.join(what)}" for name, what in each.remarks.items())


def _read(network: Network, recipe: Recipe, say: Say) -> Weights:
    if recipe.pretrained:
        say(f"loading timm's weights of {network}")
    try:
        return initial_weights(network, recipe)
    except SpecError as error:
        raise StudyError(f"recipe.pretrained: {error}") from error
    except WeightsError as error:
        raise StudyError(f"recipe.{error}") from error
    except (OSError, ValueError) as error:  # ValueError: a path that no system has
        where = "" if expanded(recipe.weights).is_absolute() else f" (in {Path.cwd()})"
        problem = f"recipe.weights={recipe.weights!r}: {getattr(error, 'strerror', error)}{where}"
        raise StudyError(f"{problem}; write the path of a checkpoint, such as last.pt, or RESULTS#TRIAL") from error
