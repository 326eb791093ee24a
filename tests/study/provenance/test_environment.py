"""The environment that a run records: complete, without secrets, comparable."""

from dataclasses import replace
from pathlib import Path

import pytest

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.values import CodeVersion
from hiri_search.study.provenance.environment import code, run_environment
from hiri_search.study.provenance.run_diff import run_differences
from hiri_search.system.redaction import redacted_command
from tests.study.records import study_started

HOME = str(Path.home())


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (["/usr/bin/hiri-search", "run", "studies/a.yaml"], "hiri-search run studies/a.yaml"),
        (["x", "--results", f"{HOME}/mine"], "x --results ~/mine"),
        (["x", "--set", "title=two words"], "x --set 'title=two words'"),
        (["x", "--address", "ray://me:word@host:1"], "x --address ray://***@host:1"),
        (["x", "--set", "data.token=abc"], "x --set data.token=***"),
        (["x", "--api-key", "abc", "y"], "x --api-key *** y"),
        (["x", "https://host/?api_key=abc&b=c"], "x 'https://host/?***'"),
        ([], ""),
    ],
)
def test_a_command_line_is_recorded_without_secrets(command: list[str], kept: str):
    assert redacted_command(command) == kept


def test_a_code_version_has_a_digest_and_the_state_of_git():
    version = code()
    assert version == code()
    assert len(version.digest) == 16
    if version.commit:
        assert len(version.commit) == 40
        assert bool(version.changed) == bool(version.diff)


def test_software_and_machine_are_recorded():
    environment = run_environment([])
    assert environment.versions["torch"]
    assert environment.machine["device"]
    assert environment.machine["system"]


def test_differences_of_two_runs_have_a_subject_and_both_values():
    file = {"nets": {"one": "hr(32 e=4)"}, "seeds": 1}
    old = study_started(StudyConfig.model_validate(file), device="CPU", versions={"torch": "2", "ray": "2"})
    assert list(run_differences(old, old)) == []
    new = study_started(
        StudyConfig.model_validate(file | {"seeds": 2, "title": "no difference"}),
        device="GPU",
        images=replace(old.images, val=9, skipped=("no difference.png",)),
        versions={"torch": "3", "ray": "2"},
        code=CodeVersion(version=None, digest="1" * 16),
    )
    assert list(run_differences(old, new)) == [
        ("study", "seeds: [0] -> [0, 1]"),
        ("images", "val: 16 -> 9"),
        ("device", "device: CPU -> GPU"),
        ("versions", "versions.torch: 2 -> 3"),
        ("code", f"digest: {'0' * 16} -> {'1' * 16}"),
    ]
