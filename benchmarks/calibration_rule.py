"""Error rate and power of the rule by which a calibration chooses a setting, over simulated calibrations.

python benchmarks/calibration_rule.py [--calibrations 2000] [-o FILE.md]

Accuracy depends on cost, and within a band of like cost on the network. A setting orders the networks of a band as
the long training does with the correlation of its line below; its seeds add noise. Settings and numbers of seeds are
judged by the functions of the report.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, pi, sin
from pathlib import Path

import numpy as np
import pandas as pd

from hiri_search.report.calibration.choice import chosen_line
from hiri_search.report.calibration.table import SETTING
from hiri_search.report.tables.formats import markdown
from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.stats.rank_correlation import MIN_TAU_BEYOND_COST, tau_beyond_cost
from hiri_search.stats.signal_to_noise import signal_to_noise

SETTINGS, SEEDS, BANDS = 8, 3, 3
SEED_SD = 0.7  # of the noise of a seed, where networks of like cost have a standard deviation of 1: signal / noise 1.4
REFERENCE_SEEDS = 2
BAND_STEP = 5.0  # accuracy from band to band, by cost alone


@dataclass(frozen=True)
class Scenario:
    """True tau beyond cost of each setting, from the cheapest to the most expensive."""

    name: str
    taus: Sequence[float]
    shared: bool = False  # True: settings that are wrong are wrong in the same way


SCENARIOS = (
    Scenario("no setting tells anything", [0.0] * SETTINGS),
    Scenario("no setting tells anything, all in the same wrong order", [0.0] * SETTINGS, shared=True),
    Scenario("all 0.3", [0.3] * SETTINGS),
    Scenario("all 0.6", [0.6] * SETTINGS),
    Scenario("all 0.8", [0.8] * SETTINGS),
    Scenario("from 0.1 to 0.8, expensive ones better", np.linspace(0.1, 0.8, SETTINGS).tolist()),
)


def simulated_lines(scenario: Scenario, networks: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return the lines of one calibration, with the true tau beyond cost of each."""
    band = np.repeat(np.arange(BANDS), networks // BANDS)
    gflops = 2.0 * 1.5**band * (1 + 0.04 * rng.random(networks))
    true = rng.normal(size=networks)
    reference = BAND_STEP * band + true + rng.normal(size=(REFERENCE_SEEDS, networks)).mean(axis=0) * SEED_SD
    common, lines = rng.normal(size=networks), []
    for number, tau in enumerate(scenario.taus):
        correlation = sin(pi * tau / 2)  # of two normal scores with this tau
        own = common if scenario.shared else rng.normal(size=networks)
        expected = BAND_STEP * band + correlation * true + (1 - correlation**2) ** 0.5 * own
        scores = expected + SEED_SD * rng.normal(size=(SEEDS, networks))
        ratio = signal_to_noise(scores.T.tolist())
        for seeds in range(1, SEEDS + 1):
            beyond = tau_beyond_cost(scores[:seeds].mean(axis=0), reference, gflops)
            assert beyond is not None
            line = {"kind": SETTING, "setting": number, "seeds": seeds, "hours": 1.5**number * seeds, "true": tau}
            line |= {"tau_beyond_cost": beyond.value, "verdict": str(beyond.verdict)}
            lines.append({**line, "signal_to_noise": ratio})
    return pd.DataFrame(lines)


def simulated(scenario: Scenario, networks: int, calibrations: int) -> dict[str, str]:
    """Return one line of the table."""
    rng = np.random.default_rng(0)
    tables = [simulated_lines(scenario, networks, rng) for _ in range(calibrations)]
    lines, chosen = pd.concat(tables), [chosen_line(table) for table in tables]
    passing = pd.DataFrame([line for line in chosen if line is not None and line["verdict"] == OrderVerdict.PASSES])
    weak = sum(line is not None and line["verdict"] == OrderVerdict.WEAK for line in chosen)
    found = (
        {"true": float("nan"), "tau_beyond_cost": float("nan")}
        if passing.empty
        else passing[["true", "tau_beyond_cost"]].mean()
    )
    return {
        "true tau beyond cost of the settings": scenario.name,
        "networks": str(networks),
        "a line passes": f"{(lines['verdict'] == OrderVerdict.PASSES).mean():.1%}",
        "a setting is chosen": f"{len(passing) / calibrations:.1%}",
        "none passes, one is weak": f"{weak / calibrations:.1%}",
        "measured tau of the chosen one": f"{found['tau_beyond_cost']:.2f}",
        "its true tau": f"{found['true']:.2f}",
    }


def ceiling() -> float:
    """Return tau beyond cost of the reference's means with the truth: what a perfect setting without noise reaches."""
    return 2 / pi * asin(1 / (1 + SEED_SD**2 / REFERENCE_SEEDS) ** 0.5)


def main() -> None:
    """Print the table, or write it into a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibrations", type=int, default=2000, help="simulated calibrations for each line")
    parser.add_argument("-o", "--out", type=Path, help="Markdown file to write")
    given = parser.parse_args()
    rows = [simulated(scenario, networks, given.calibrations) for networks in (15, 24) for scenario in SCENARIOS]
    text = (
        "# The rule by which a calibration chooses a setting\n\n"
        f"`python benchmarks/calibration_rule.py --calibrations {given.calibrations}`: each line is as many simulated"
        f" calibrations of {SETTINGS} settings with lines for 1 to {SEEDS} seeds, networks in {BANDS} bands of like"
        f" cost, signal / noise {1 / SEED_SD:.1f}, and a reference with {REFERENCE_SEEDS} seeds. A setting without any"
        f" error would reach a tau beyond cost of {ceiling():.2f}, because the reference has noise. The bar is"
        f" {MIN_TAU_BEYOND_COST}. The cheapest line that passes is chosen.\n\n{markdown(pd.DataFrame(rows))}"
    )
    if given.out:
        given.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
