"""Results without a run, for tests of the page: an ablation, a search, and studies in an early state."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from hiri_search.report.tables.results import Results
from hiri_search.study.ledger.values import CodeVersion
from hiri_search.study.plan.plan import Compared
from tests.report.examples import example_results, example_study

RECIPE = {"epochs": 3}
SEARCH = {"networks": 24, "sampler": "surrogate", "objectives": ["top1", "gmacs"]}
KINDS = ("hr", "cffn", "t")
INJECTED = "<script>document.title='bad'</script>"
REASON = "ValueError: </script><img src=x onerror=\"document.title='bad'\"> of step 7"


def trial(number: int, name: str, seed: int, curve: list[float], gmacs: float, **more: Any) -> dict[str, Any]:
    costs = {"params": int(gmacs * 7e6), "macs": int(gmacs * 1e9), "core_macs": int(gmacs * 1e9)}
    parts = {"stem": [10_000, 10**8], "stage1": [int(gmacs * 7e6) - 30_000, int(gmacs * 1e9) - 2 * 10**8]}
    last = curve[-1] if curve else None
    scores = {"top1": last, "top5": last, "ema_top1": None, "ema_top5": None, "loss": 1.0 if curve else None}
    facts = {"trial": number, "name": name, "key": f"key{name[:20]}", "spec": f"hr(32 e=4)*{number} -> {name}"}
    facts |= {"seed": seed, "side": 448, "trained_spec": f"small {name}", "trained_side": 64, **costs}
    facts |= {"by_part": {**parts, "head": [20_000, 10**8]}, "state": "finished", "reason": "", "source": ""}
    facts |= {"epochs": len(curve), **scores, "seconds": 2.0 * len(curve), "device": "CPU, 2 cores"}
    facts |= {"curve": curve, "ema_curve": []}
    return facts | {"checkpoint": f"checkpoints/{number}/last.pt", **more}


def _curve(best: float) -> list[float]:
    return [best * 0.5, best * 0.8, best]


NO_EPOCH: dict[str, Any] = {"top1": None, "curve": [], "ema_curve": []}


def ablation() -> Results:
    """Return three networks with two seeds each; the name of one and the reason of its failure contain markup."""
    names = {"HR-HR-T-T-T": (50.0, 5.4), "HR-HR-CFFN-T-T": (60.0, 5.0), INJECTED: (40.0, 2.4)}
    trials = [
        trial(2 * n + seed, name, seed, _curve(best + seed), gmacs)
        for n, (name, (best, gmacs)) in enumerate(names.items())
        for seed in (0, 1)
    ]
    trials[5] |= {"state": "failed", "reason": REASON, **NO_EPOCH, "epochs": 0}
    planned = [Compared("counting", 2.0, 1.5), Compared("trials", 30.0, 24.0), Compared("in all", 32.0, 25.5)]
    study = example_study(list(names), title="Mixes of blocks", table="8", recipe=RECIPE, seeds=2)
    return example_results(study, trials, planned=planned, times=(1.7e9, 1.7e9 + 90))


def less_is_better() -> Results:
    """Return three networks with three seeds, judged by a score of the user of which less is better, on test images."""
    names = {"HR-HR-T-T-T": (0.01, 5.4), "HR-HR-CFFN-T-T": (0.02, 5.0), "HR-CFFN-CFFN-T-T": (0.03, 6.0)}
    trials = []
    for name, (best, gmacs) in names.items():
        for seed in range(3):
            val = [best + 0.2, best + 0.1]
            scores = {"ece": val[-1], "test_ece": best * (1 + 0.05 * seed), "test_ema_ece": best, "test_top1": 50.0}
            trials.append(trial(len(trials), name, seed, val, gmacs, **scores))
    metric = {"function": "my_package.metrics:ece", "label": "ECE", "up": False, "digits": 4}
    keys = {"table": "8", "recipe": {"epochs": 2}, "seeds": 3, "metrics": {"ece": metric}, "score": "ece"}
    results = example_results(example_study(list(names), title="Calibration", **keys), trials)
    return replace(results, started=replace(results.started, images=replace(results.started.images, test=40)))


def search(networks: int) -> Results:
    """Return networks with one seed; every fourth is stopped at its rung, and the first is confirmed."""
    rng = Random(0)
    trials, decisions = [], {}
    for number in range(networks):
        kind, width = rng.choice(KINDS), rng.choice([32, 64, 96])
        gmacs = 1 + width / 32 + rng.random() + KINDS.index(kind)
        name = f"{kind}({width} e=4)*{number % 3 + 1} -> t({128 + number} e=5)*9"
        stopped = number % 4 == 3
        more = {"state": "stopped" if stopped else "finished", "zero_cost_zen": rng.random()}
        best = 20 + 5 * gmacs + rng.gauss(0, 3)
        trials.append(trial(number, name, 0, _curve(best)[: 1 if stopped else 3], gmacs, **more))
        decisions[number] = {"1.which": kind, "1.w": width, **({"1.hr.e": 4} if kind == "hr" else {})}
    if networks:
        first = {**trials[0], "confirms": 0}
        trials += [{**first, "trial": networks + seed, "seed": seed, "top1": 60.0 + seed} for seed in range(2)]
    shares = {"top1": {"1.which": 0.7, "1.w": 0.3}, "front": {"1.which": 0.4, "1.w": 0.6}} if networks else {}
    losses = [(-row["top1"], row["macs"] / 1e9) for row in trials[:networks] if row["state"] == "finished"][:200]
    study = example_study(title="A search", space="a space", search=SEARCH, recipe=RECIPE)
    return example_results(study, trials, losses=losses, decisions=decisions, importances=shares)


def early() -> dict[str, Results]:
    """Return results of studies in an early state, by its description."""
    complete = ablation()
    one_seed = complete.study.model_copy(update={"seeds": (0,)})
    counted = [{name: value for name, value in row.items() if name != "trial"} for row in complete.trials[:1]]
    failed = [{**row, "state": "failed", "reason": "why", **NO_EPOCH} for row in complete.trials]
    begun = [{**row, "state": "unfinished", **NO_EPOCH, "epochs": 0} for row in complete.trials[:2]]
    bare = replace(complete.started, command="", code=CodeVersion("0.1.0", "d"))
    return {
        "nothing": replace(complete, trials=[]),
        "counted": replace(complete, trials=[], counted=counted),
        "begun": replace(complete, trials=begun),
        "one seed": replace(complete, study=one_seed, trials=complete.trials[::2]),
        "all failed": replace(complete, trials=failed),
        "without a command, outside git": replace(complete, started=bare),
        "a search before its first trial": search(0),
    }
