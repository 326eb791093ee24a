"""Sentences of captions: the recipe, the choices in it, and whether the order of the trainings was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hiri_search.report.tables.results import Results
from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.stats.rank_correlation import BAND_LEVEL
from hiri_search.study.calibration.proxy import measured_keys
from hiri_search.study.config.choices import RecipeOptions
from hiri_search.study.config.identity import differences
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.calibration import CalibrationNote

_MEANINGS = {
    OrderVerdict.PASSES: "The order of networks of like cost may be believed that far.",
    OrderVerdict.WEAK: "The order of networks of like cost is better than chance, and no more.",
    OrderVerdict.FAILS: "The order of networks of like cost is not to be believed.",
    OrderVerdict.TOO_FEW: "The order of networks of like cost is not to be believed.",
}


def calibration_sentence(study: StudyConfig) -> str:
    """Say what is known of the order of networks that trainings with these settings give."""
    if (note := study.calibration) is None:
        return "These settings were not calibrated: it is not known whether longer trainings give the same order."
    departures = _departures(study, note)
    measured = (
        f"Calibrated as {note.setting} on {note.data} ({note.date}): tau beyond cost with {note.reference} is"
        f" {note.tau_beyond_cost:.2f} ({BAND_LEVEL:.0%} interval {note.low:.2f} to {note.high:.2f};"
        f" {note.pairs} pairs of {note.networks} networks): {note.verdict}."
    )
    if departures:
        return f"{measured} But the settings of this study are other ones: {'; '.join(departures)}."
    return f"{measured} {_MEANINGS[note.verdict]}"


def _departures(study: StudyConfig, note: CalibrationNote) -> list[str]:
    """Return the settings of a study that are not those that were measured; more seeds are no departure."""
    own, measured = measured_keys(study), dict(note.measured)
    more_seeds = len(study.first_seeds) >= len(measured["seeds"])
    plain: Any = {"seeds": measured["seeds"]} if more_seeds else {}
    changed = differences(measured, own | plain)
    return changed + ([f"data.source: {note.data} -> {study.data.source}"] if study.data.source != note.data else [])


# ---- the recipe

RECIPE_TEXTS = {  # setting: (text, the value that turns it off)
    "lr": ("learning rate {}", 0),
    "schedule": ("schedule {}", "cosine"),
    "batch": ("batch {}", 0),
    "warmup_epochs": ("warm-up {:g} epochs", 0),
    "weight_decay": ("weight decay {:g}", 0),
    "drop_path": ("stochastic depth {:g}", 0),
    "label_smoothing": ("label smoothing {:g}", 0),
    "crop": ("crops from {:.0%}", 1),
    "min_scale": ("scales from {:.0%}", 1),
    "auto_augment": ("{}", ""),
    "mixup": ("Mixup {:g}", 0),
    "cutmix": ("CutMix {:g}", 0),
    "erasing": ("erasing {:g}", 0),
    "ema": ("EMA {:g}", 0),
    "distill_alpha": ("distillation with alpha {:g}", 1),
}


def recipe_text(results: Results) -> str:
    """Return epochs, steps and the settings of a recipe that are not off, in words, without those that have choices.

    The learning rates are those of the stand-ins, which depend on what their widths are divided by.
    """
    study, options, images = results.study, results.recipe_options, results.started.images.train
    recipe, divisors = study.recipe, {row.get("trained_width_divisor", study.proxy.width) for row in results.trials}
    epochs, batches = (options.get(name, (getattr(recipe, name),)) for name in ("epochs", "batch"))
    steps = either(images // int(batch) for batch in batches)
    rates = sorted({recipe.lr * divisor**0.5 for divisor in divisors or {study.proxy.width}})
    values = {name: getattr(recipe, name) for name in RECIPE_TEXTS} | {"lr": either(f"{rate:g}" for rate in rates)}
    unused = () if not study.data.annotations else ("label_smoothing",)  # detectors have losses of their own
    texts = {name: text for name, text in RECIPE_TEXTS.items() if name not in options and name not in unused}
    settings = [text.format(values[name]) for name, (text, off) in texts.items() if values[name] != off]
    length = f"for {either(epochs)} epoch{'s' * (max(epochs) > 1)} of {steps} steps"
    return length + (f" (AdamW, {', '.join(settings)})" if settings else "")


def own_recipes(study: StudyConfig, options: RecipeOptions) -> str:
    """Return the differences of rows from the study's recipe, and their values of the keys that others choose."""
    rows = []
    for name, row in (study.nets or {}).items():
        own, chosen = asdict(row.recipe or study.recipe), row.setting.values if row.setting else {}
        changed = [
            f"{key} {value}"
            for key, value in own.items()
            if key not in chosen and (key in options or value != getattr(study.recipe, key))
        ]
        rows += [f"{name} ({', '.join(changed)})"] if changed else []
    return ", ".join(rows)


def either(values: Iterable[object]) -> str:
    """Return distinct values as `1`, or `1 or 2`."""
    *others, last = dict.fromkeys(map(str, values))
    return f"{', '.join(others)} or {last}" if others else last


def settings_sentence(results: Results) -> str:
    """Say what the choices in the recipe were, and of an ablation on which images they were made."""
    if not (options := results.recipe_options):
        return ""
    listed = ", ".join(f"{key} of {either(values)}" for key, values in options.items())
    if results.is_search:
        return f" Decisions of the search on the recipe, beside those on the network: {listed} (column setting)."
    images, label = results.started.images, results.study.headline.label
    return (
        f" Each row is shown at its best setting of the recipe, with {listed}: the one with the best mean {label} over"
        f" its seeds on the {images.val} validation images. Scores are on the {images.test} test images, which this"
        " choice did not see; settings.csv has all settings."
    )
