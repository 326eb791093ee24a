"""Searches over related spaces and spaces of timm: every sampler, crashes, networks that cannot be built."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import tests.grouped  # noqa: F401 - registers a network with timm
from hiri_search.cli.main import main
from hiri_search.language import Network, RelatedSpace, SpecError, TimmNetwork, parse_space
from hiri_search.study.config.identity import canonical_form, differences
from hiri_search.study.config.networks import InvalidNetwork, resolve
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.export.optuna_export import read_export
from hiri_search.study.ledger.events import NetworkSkipped
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.run import run
from hiri_search.study.search.importance import importances
from hiri_search.study.search.search import Search
from hiri_search.study.search.search_space import all_options
from tests.study.records import epoch, network, new_trial
from tests.study.search.searches import Quiet, carry_on, search_of, study
from tests.study.search.test_search import SAMPLERS
from tests.study.search.test_search_run import Killed, _killed_in

SPACE = "hr(32|64 e=2..4)*1..2 -> (hr | t(d=16|32))(32|64 e=2) -> t(64 e=2)"
WHERE = ("w2 >= w1", "e1 * n1 <= 4", "kind2 == hr or d2 == 32")


def _related(**search: Any) -> StudyConfig:
    return study(SPACE, **search).model_copy(update={"where": WHERE})


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_proposes_all_networks_that_satisfy_the_relations(sampler: str):
    config = _related(sampler=sampler, networks=999)
    space = resolve(config).space
    assert isinstance(space, RelatedSpace)
    done = carry_on(search_of(config), 999)
    assert len(done) == space.size < space.space.size
    assert {trial.network.key for trial in done} == {net.key for net in space}
    assert [t.network.key for t in carry_on(search_of(config, done[:9]), 999)] == [t.network.key for t in done[9:]]


def test_the_order_and_the_spelling_of_relations_are_no_part_of_a_study():
    respelled = _related().model_copy(update={"where": ("(kind2==hr)or d2==32", "w2>=w1", "e1*n1 <= 2*2")})
    assert canonical_form(respelled) == canonical_form(_related())
    changed = _related().model_copy(update={"where": (*WHERE[:2], "d2 == 32")})
    assert differences(canonical_form(_related()), canonical_form(changed)) != []
    assert "where" not in canonical_form(study(SPACE))
    divided = study("hr(32 e=4) -> t(64..128/16 e=4 d=16|32)").model_copy(update={"where": ("w2 % d2 == 0",)})
    assert canonical_form(divided)["where"] == ["w2 % d2 == 0"]
    assert len(carry_on(search_of(divided), 99)) == 8


MISTAKES = {
    "unknown": ("where: [w1 > 1, w9 > 2]", r"study\.yaml:2: where: this space has no w9"),
    "not a relation": ("where: w1", r"study\.yaml:2: where: this is a number, where true or false must be"),
    "excludes all": (
        "where: [w2 > 1, w2 > w1, w1 > w2]",
        r"study\.yaml:2: where: no network .* satisfies w1 > w2 together",
    ),
    "of the file": ("where: [w2 > 1]\n", r"space\.yaml:2: where: no network of the space satisfies w1 > 64"),
}


@pytest.mark.parametrize(("where", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_wrong_relation_is_found_while_the_study_is_read(tmp_path: Path, where: str, message: str):
    in_file = message.startswith("space")
    (tmp_path / "space.yaml").write_text(f"space: {SPACE}\nwhere: [{'w1 > 64' if in_file else 'w2 <= 64'}]\n")
    (tmp_path / "study.yaml").write_text(f"space: space.yaml\n{where}\ncounted: {{side: 64}}\n")
    with pytest.raises(StudyError, match=message):
        read_study(tmp_path / "study.yaml")


def test_relations_of_a_space_file_and_of_a_study_add_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "space.yaml").write_text(f"space: {SPACE}\nwhere: w2 >= w1\n")
    (tmp_path / "study.yaml").write_text("space: space.yaml\nwhere: e1 == 2\ncounted: {side: 64}\nproxy: {side: 64}\n")
    assert str(resolve(read_study(tmp_path / "study.yaml")).space) == f"{parse_space(SPACE)} where w2 >= w1, e1 == 2"
    with suppress(SystemExit):
        main(["list", str(tmp_path / "space.yaml"), "--limit", "0"])
    assert len(capfd.readouterr().out.splitlines()) == parse_space(SPACE, where=["w2 >= w1"]).size
    (tmp_path / "study.yaml").write_text("nets: {a: hr(32 e=4)}\nwhere: w1 > 2\n")
    with pytest.raises(StudyError, match="where: is for a search only"):
        read_study(tmp_path / "study.yaml")


# ---- timm

TIMM = "timm:grouped_of_tests act=relu|gelu groups=1|2|3 width=6..12/2"
BUILDABLE = [net for net in parse_space(TIMM) if dict(net.arguments)["width"] % dict(net.arguments)["groups"] == 0]  # type: ignore


def _made_up_costs(net: Network) -> dict[str, float]:
    assert isinstance(net, TimmNetwork)
    if net not in BUILDABLE:
        raise SpecError("cannot be built")
    arguments = dict(net.arguments)
    return {"gmacs": float(arguments["width"]), "mparams": float(arguments["groups"])}  # type: ignore[arg-type]


def _carry_on(
    config: StudyConfig, most: int, past: Any = (), skipped: Any = ()
) -> tuple[list[Trial], list[NetworkSkipped]]:
    """Return up to `most` trials of a search, each finished at once, and the networks that it skipped."""
    skips: list[NetworkSkipped] = []

    def on_skip(position: int, decisions: Any, reason: str) -> None:
        assert "cannot be built for inputs of 448 pixels" in reason
        skips.append(NetworkSkipped(proposal=position, decisions=dict(decisions), reason=reason))

    search = Search(resolve(config), past, costs=_made_up_costs, skipped=skipped, on_skip=on_skip)
    done: list[Trial] = []
    while len(done) < most and (asked := search.ask()):
        number, candidate, seed = asked
        facts = network(candidate.name, key=candidate.network.key, spec=str(candidate.network), side=32)
        curve = [epoch(1, 50 + int(candidate.network.key[:2], 16) / 9)]
        trial = new_trial(number, facts, seed=seed, decisions=candidate.decisions, state="finished", curve=curve)
        search.tell(trial)
        done.append(trial)
    return done, skips


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_skips_networks_that_timm_cannot_build(sampler: str):
    config = study(TIMM, sampler=sampler, networks=99).model_copy(
        update={"counted": StudyConfig.model_fields["counted"].default}
    )
    done, skipped = _carry_on(config, 99)
    assert sorted(trial.network.spec for trial in done) == sorted(map(str, BUILDABLE))
    assert len(done) + len(skipped) == 24
    past, skipped_before = _carry_on(config, 5)
    resumed, _ = _carry_on(config, 99, past, skipped_before)
    assert [trial.network.key for trial in (*past, *resumed)] == [trial.network.key for trial in done]


STUDY = f"""
space: {TIMM}
where: width >= groups * 3
within: {{gmacs: ..0.0001}}
search: {{sampler: SAMPLER, networks: 9}}
counted: {{side: 32, classes: 10}}
proxy: {{side: 32, classes: 4}}
data: {{source: drawn, train: 32, val: 16}}
recipe: {{epochs: 1, batch: 16, warmup_epochs: 0, ema: 0.0}}
"""


def _run(folder: Path, text: str, dispatch: Callable[[Any], None] = run_serially) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(text)
    said: list[str] = []
    callback = Quiet()
    callback.say = said.append  # type: ignore[method-assign]
    run(read_study(folder / "study.yaml"), folder, dispatch, callback, profile="none")
    return said


def test_a_killed_search_over_timms_arguments_resumes_and_can_be_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    text = STUDY.replace("SAMPLER", "surrogate")
    said = _run(tmp_path / "unbroken", text)
    assert "20 networks satisfy width >= groups * 3, 83.333% of the space" in said
    assert any("networks are within gmacs ..0.0001" in line and line.endswith("cannot be built") for line in said)
    with pytest.raises(Killed):
        _run(tmp_path / "killed", text, _killed_in(5))
    _run(tmp_path / "killed", text)
    unbroken, resumed = (trials(read_events(tmp_path / name)) for name in ("unbroken", "killed"))
    assert [trial.network.spec for trial in resumed] == [trial.network.spec for trial in unbroken]
    assert {trial.state for trial in resumed} == {"finished"}
    assert all(trial.network.macs <= 100_000 for trial in resumed)
    assert resumed[0].asked.decisions.keys() == {"act", "groups", "width"}
    assert read_export(tmp_path / "killed").trials[0].params.keys() == {"act", "groups", "width"}
    assert importances(read_study(tmp_path / "killed" / "study.yaml"), resumed)["top1"].keys() == {
        "act",
        "groups",
        "width",
    }
    for command in ("report", "verify", "status"):
        with pytest.raises(SystemExit) as ended:
            main([command, str(tmp_path / "killed")])
        assert ended.value.code == 0, command
    assert "9 of 9 asked for" in capfd.readouterr().out


@pytest.mark.parametrize("sampler", ["evolution", "random"])
def test_a_search_over_timms_arguments_without_a_budget(tmp_path: Path, sampler: str):
    text = (
        STUDY.replace("SAMPLER", sampler)
        .replace("within: {gmacs: ..0.0001}\n", "")
        .replace("networks: 9", "networks: 99")
    )
    _run(tmp_path, text)
    events = read_events(tmp_path)
    related = parse_space(TIMM, where=["width >= groups * 3"])
    assert {t.network.spec for t in trials(events)} == {str(net) for net in related if net in BUILDABLE}
    assert sum(isinstance(event, NetworkSkipped) for event in events) == sum(net not in BUILDABLE for net in related)


def test_a_space_that_timm_cannot_build_is_refused_before_anything_is_trained(tmp_path: Path):
    text = STUDY.replace("SAMPLER", "random").replace("groups=1|2|3", "groups=7|11")
    for within in ("within: {gmacs: ..0.0001}\n", ""):
        where = text.replace("within: {gmacs: ..0.0001}\n", within).replace("where: width >= groups * 3\n", "")
        with pytest.raises(InvalidNetwork, match="cannot be built for inputs of 32 pixels"):
            _run(tmp_path, where)


def test_names_and_reserved_arguments_are_checked_while_the_study_is_read(tmp_path: Path):
    for space, message in (
        ("timm:pvt_v2_b99 depths=(1|2)", r"study\.yaml:1: space: timm .* has no network 'pvt_v2_b99'; did you mean"),
        ("timm:resnet18 | timm:resnet50 num_classes=(1|2)", r"space: num_classes is not supported"),
        ("timm:resnet18 a=(1|2,3)", r"study\.yaml:1: space: unexpected ','; expected \| or \)"),
    ):
        (tmp_path / "study.yaml").write_text(f"space: {space}\n")
        with pytest.raises(StudyError, match=message):
            read_study(tmp_path / "study.yaml")


def test_options_of_all_decisions_are_found():
    options = all_options(parse_space("timm:a x=1..3 y=2 | timm:b act=relu|gelu", where=["x >= 2"]))
    assert options == {"which": ("a", "b"), "a.x": (1, 2, 3), "b.act": ("relu", "gelu")}


def test_a_tuner_samples_networks_that_satisfy_the_relations():
    from hiri_search.tune import _WantedOptions, param_space  # slow

    config = _related()
    assert {name: domain.categories for name, domain in param_space(config).items()} == {
        **{"1.w": [32, 64], "1.e": [2, 3, 4], "1.n": [1, 2]},
        **{"2.which": ["hr", "t"], "2.w": [32, 64], "2.t.d": [16, 32]},
    }
    space = resolve(config).space
    assert space is not None
    wanted = {"1.w": 64, "1.e": 4, "1.n": 2, "2.which": "t", "2.w": 32, "2.t.d": 16}
    net, taken = space.walk(_WantedOptions(wanted))
    assert taken == {"1.w": 64, "1.e": 4, "1.n": 1, "2.which": "t", "2.w": 64, "2.t.d": 32}, (
        "the nearest that is allowed"
    )
    assert net == space.replay(taken)
    assert param_space(study(TIMM)).keys() == {"act", "groups", "width"}
