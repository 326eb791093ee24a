"""Study files read: validated, with their code imported and their networks checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hiri_search.language import SpecError, TimmNetwork, parse_space
from hiri_search.language.relations.related_space import AnySpace, InvalidRelation
from hiri_search.study.config.choices import recipe_options, row_of
from hiri_search.study.config.declared_kinds import describe_kinds
from hiri_search.study.config.files.base import NO_PROFILE, bases, profile_names
from hiri_search.study.config.files.layers import (
    SpaceFile,
    YamlLocations,
    layered,
    merged,
    validated,
    with_files,
    with_proxy,
)
from hiri_search.study.config.files.yaml_file import Tree, read_yaml
from hiri_search.study.config.identity import canonical_form
from hiri_search.study.config.networks import Candidate, InvalidNetwork, at_key, covering_networks, resolve, start_of
from hiri_search.study.config.schema import CodeRecord, StudyConfig
from hiri_search.study.config.schema_keys import Key, dotted
from hiri_search.study.config.sections.metrics import with_attributes
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import REFERENCE
from hiri_search.system.redaction import redacted
from hiri_search.user_code import UserCodeError, import_user_code

PAPER_TABLES = tuple("123456789")  # tables of the paper with networks, and its Figure 1


def read_study(path: Path, *, profile: str = NO_PROFILE, sets: Sequence[str] = ()) -> StudyConfig:
    """Read a study file, merge a profile over it, and `key=value` settings over both.

    Raises StudyError with file and line for every mistake that would stop a run, in specs and sides too.
    """
    return study_of(read_study_file(path), profile=profile, sets=sets)


def read_study_file(path: Path) -> Tree:
    """Read the keys of a study file, once: a pipe has no second reading."""
    return read_yaml(path, StudyConfig)


def study_of(tree: Tree, *, profile: str = NO_PROFILE, sets: Sequence[str] = ()) -> StudyConfig:
    """Return the study of a study file, as `read_study` does."""
    places = YamlLocations(tree, profile)
    return _checked(layered(places, sets), places)


def _checked(content: dict[str, Any], places: YamlLocations) -> StudyConfig:
    """Return the study of a content without layers."""
    if "code" in content:
        raise places.error(("code",), "code: is filled in from imports:, the files of your own code; remove it")
    if "choices" in content:
        raise places.error(("choices",), "choices: is filled in from recipe: {lr: 1e-3|3e-3}; remove it")
    for name, row in rows.items() if isinstance(rows := content.get("nets"), dict) else ():
        if isinstance(row, dict) and "setting" in row:
            message = "setting: is filled in from the choices in a recipe; remove it"
            raise places.error(("nets", name, "setting"), message)
    study = validated(StudyConfig, with_files(content, places), places)
    if study.table and study.table not in PAPER_TABLES:
        message = f"table={study.table!r} is not a table with networks; write one of {', '.join(PAPER_TABLES)}"
        raise places.error(("table",), message)
    study = _with_code(study, places)
    _check_networks(study, places)
    try:
        return with_attributes(study)
    except UserCodeError as error:
        raise places.error(("metrics",) if study.metrics else ("callbacks",), str(error)) from error


@dataclass(frozen=True)
class Calibration:
    """A study with a section `calibrate:`, and its settings: an ablation of the same networks for each."""

    study: StudyConfig
    _content: Mapping[str, Any]  # of the study, without the files that it names
    _places: YamlLocations

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the settings, the reference last."""
        assert self.study.calibrate
        return (*self.study.calibrate.settings, REFERENCE)

    def setting(self, name: str, drawn: Mapping[str, str] | None) -> StudyConfig:
        """Return the ablation of a setting over the drawn networks (spec by name) and the rows of the file.

        With `drawn` None it is the search of the study under the setting. StudyError where the setting has a mistake.
        """
        content = dict(self._content)
        calibrate = content.pop("calibrate")
        section = (REFERENCE,) if name == REFERENCE else ("settings", name)
        keys = calibrate[REFERENCE] if name == REFERENCE else calibrate["settings"][name]
        content |= {"score": self.study.headline.name, "checkpoints": "none", "latency": None, "confirm": None}
        search = self.study.search
        content["search"] = {"objectives": list(search.objectives), "reuse": list(search.reuse)}
        content["seeds"] = list(self.study.first_seeds)
        listed = content.get("metrics")
        content["metrics"] = dict(self.study.measured) | (listed if isinstance(listed, dict) else {})
        if self.study.space is not None and drawn is not None:
            for key in ("space", "where", "within"):
                content.pop(key, None)
            content["let"] = calibrate.get("let") or {}
            content["nets"] = {**drawn, **(calibrate.get("nets") or {})}
        places = YamlLocations(self._places.tree, self._places.profile, over=(("calibrate", *section), ("calibrate",)))
        places.sets, places.bases = self._places.sets, self._places.bases
        content = merged(content, with_proxy(keys, places))
        content.pop("calibration", None)  # of a proxy file: this setting is what is measured
        study = _checked(content, places)
        if recipe_options(study.nets or {}) or study.choices:
            raise places.error(("recipe",), "recipe: a calibration takes no choices in a recipe; write one value each")
        return study.model_copy(update={"seeds": study.first_seeds})  # a rule that adds seeds would spoil comparisons


def calibration_of(tree: Tree, *, profile: str = NO_PROFILE, sets: Sequence[str] = ()) -> Calibration:
    """Return the calibration of a study file; the settings lie over the profile and over `sets`.

    StudyError where the study has no section `calibrate:`, and for every mistake in the study or in a setting.
    """
    places = YamlLocations(tree, profile)
    content = layered(places, sets)
    if not content.get("calibrate"):
        raise StudyError(
            f"{tree.path} has no calibrate:; write it with reference: and settings:, as docs/calibration.md"
        )
    calibration = Calibration(_checked(content, places), content, places)
    by_training: dict[str, str] = {}
    for name in calibration.settings:  # the networks are drawn later, but mistakes in a setting are said now
        training = json.dumps({**canonical_form(calibration.setting(name, None)), "seeds": None}, sort_keys=True)
        if (other := by_training.setdefault(training, name)) != name:
            remedy = "remove one of them: the report has a line for each number of seeds"
            raise places.error(("calibrate",), f"calibrate: {other} and {name} are one training; {remedy}")
        if calibration.study.space is not None and content["calibrate"].get("nets"):
            calibration.setting(name, {})
    return calibration


def profiles_of(tree: Tree) -> tuple[str, ...]:
    """Return the names of the profiles in a study file, and in the studies under it."""
    return profile_names((tree, *bases(tree)))


def read_space(path: Path) -> AnySpace:
    """Read a space file, such as those of `spaces/`."""
    tree = read_yaml(path, SpaceFile)
    places = YamlLocations(tree)
    file = validated(SpaceFile, tree.content, places)
    try:
        space = parse_space(file.space, let=file.let, where=file.where)
        space.size  # noqa: B018 - relations that no network satisfies are noticed by the first count
        return space
    except SpecError as error:
        key: Key = ("where", error.number) if isinstance(error, InvalidRelation) else ("space",)
        raise places.error(key, f"{key[0]}: {error}") from error


def _with_code(study: StudyConfig, places: YamlLocations) -> StudyConfig:
    """Import the study's own code, and record it in the study."""
    try:
        code = import_user_code(study.imports, places.tree.folder)
    except (UserCodeError, SpecError) as error:
        raise places.error(("imports",), str(error)) from error
    return study.model_copy(update={"code": CodeRecord(files=code.digests, kinds=describe_kinds(code))})


# ---- networks


def _check_networks(study: StudyConfig, places: YamlLocations) -> None:
    """Check that every trained network parses, exists, and fits the sides at which it is counted and trained."""
    try:
        networks = resolve(study)
        for candidate in covering_networks(study, networks.space) if networks.space else networks.rows:
            context: Key = ("space",) if networks.space else ("nets", candidate.name)
            _check_timm(candidate, context)
            _check_pretrained(candidate, context)
        if networks.space:
            list(start_of(study, networks.space))
    except InvalidNetwork as error:
        key, context = (_of_file(study, each) for each in (error.key, error.context))
        place = places.find(key) or places(context)
        owner = "" if key[: len(context)] == context else f" for {dotted(context)}"
        setting = "where" if key[0] == "where" else dotted(key)
        raise StudyError(redacted(f"{place}: {setting}{owner}: {error}")) from error


def _check_pretrained(candidate: Candidate, context: Key) -> None:
    """Raise InvalidNetwork where timm publishes no weights for a network that begins from them."""
    if candidate.trained and candidate.recipe.pretrained:
        from hiri_search.weights import check_pretrained

        with at_key((*(() if context == ("space",) else context), "recipe", "pretrained"), context):
            check_pretrained(candidate.trained, candidate.recipe.pretrained)


def _of_file(study: StudyConfig, key: Key) -> Key:
    """Return a key with the name that a row has in the study file, in place of that of one of its settings."""
    return (*key[:1], row_of(study.nets or {}, str(key[1])), *key[2:]) if key[:1] == ("nets",) else key


def _check_timm(candidate: Candidate, context: Key) -> None:
    """Raise InvalidNetwork where timm, imported only if needed, has no such network, or it would be self-distilled."""
    searched = context == ("space",)
    if isinstance(candidate.trained, TimmNetwork) and candidate.recipe.distill_alpha < 1:
        from hiri_search.training.distill import check_teacher

        with at_key((*(() if searched else context), "recipe", "distill_alpha"), context):
            check_teacher(candidate.trained)
    for network, key in ((candidate.network, "spec"), (candidate.trained, "stand_in")):
        if isinstance(network, TimmNetwork):
            from hiri_search.networks import check_timm

            with at_key(context if searched else (*context, key), context):
                check_timm(network)
