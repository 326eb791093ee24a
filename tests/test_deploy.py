"""The files in deploy/ are well formed, and the batch script does what its comment says."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SCHEMA = json.loads((ROOT / "tests" / "rayjob.schema.json").read_text())


def _read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def _templates(job: Any) -> list[Any]:
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def _check_pods(job: Any) -> None:
    for template in _templates(job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


# ---- Kubernetes


def test_kuberay_and_kubernetes_know_the_fields_of_the_rayjob():
    job = _read("rayjob.yaml")
    jsonschema.validate(job, SCHEMA)
    _check_pods(job)


def test_a_misspelt_field_is_found():
    wrong = copy.deepcopy(_read("rayjob.yaml"))
    wrong["spec"]["entryPoint"] = wrong["spec"].pop("entrypoint")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)
    wrong = copy.deepcopy(_read("rayjob.yaml"))
    _templates(wrong)[1]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        _check_pods(wrong)


def test_the_pods_of_the_rayjob_share_results_and_cache():
    job = _read("rayjob.yaml")
    environment = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]
    for template in _templates(job):
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        (container,) = template["spec"]["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert "persistentVolumeClaim" in str(template["spec"]["volumes"])
        assert set(mounts.values()) <= volumes
        assert environment["HIRI_SEARCH_CACHE"].startswith("/shared/")
        assert "--results /shared/" in job["spec"]["entrypoint"]
        assert "/shared" in mounts


# ---- Ray's launcher


def test_the_launcher_file_passes_rays_own_schema_and_checks():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(_read("launcher.yaml"))
    validate_config(config)
    assert config["provider"]["worker_ips"]
    commands = [line for name, lines in config.items() if name.endswith("_commands") for line in lines]
    assert any("ray start" in line for line in commands)
    assert not any("ray stop" in line for line in commands)
    with pytest.raises(Exception, match="worker_start_ray_command"):
        validate_config(prepare_config({**_read("launcher.yaml"), "worker_start_ray_command": []}))


# ---- Slurm


def test_the_batch_script_has_valid_syntax():
    subprocess.run(["bash", "-n", str(DEPLOY / "slurm.sh")], check=True)
    if not shutil.which("shellcheck"):
        pytest.skip("Debian's shellcheck is not installed")
    checked = subprocess.run(["shellcheck", str(DEPLOY / "slurm.sh")], capture_output=True, text=True)
    assert checked.stdout == ""


STUDY = """
nets: {one: hr(32 e=4) -> hr(64 e=4)}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 64, val: 32}
recipe: {epochs: 2, batch: 16, warmup_epochs: 0}
seeds: 4
"""
FAKE_COMMANDS = {
    "srun": 'for word; do case "$word" in --nodelist=*) export NODE="${word#*=}";; esac; done\n'
    'while [[ "$1" == --* ]]; do shift; done\necho "$NODE: $*" >> "$TRACE"\nexec "$@"\n',
    "scontrol": 'echo "scontrol $*" >> "$TRACE"\nif [ "$1" = show ]; then printf "%s\\n" one two; fi\n',
}


@pytest.mark.slow
def test_the_batch_script_starts_ray_on_all_nodes_runs_the_study_and_leaves_no_process(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    for name, text in FAKE_COMMANDS.items():
        file = tmp_path / "bin" / name
        file.write_text(f"#!/usr/bin/env bash\n{text}")
        file.chmod(0o755)
    (tmp_path / "study.yaml").write_text(STUDY)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "[one-two]", "SLURM_CPUS_PER_TASK": "1"}
    command = ["bash", str(DEPLOY / "slurm.sh"), str(tmp_path / "study.yaml"), "--results", str(tmp_path / "results")]
    environment = os.environ | job | {"PATH": path, "TRACE": str(tmp_path / "trace"), "RAY_ADDRESS": "127.0.0.1:1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "results" / "report" / "trials.csv").exists()
    trace = (tmp_path / "trace").read_text()
    assert "one: ray start --head" in trace
    assert "two: ray start --address=" in trace
    assert "requeue" not in trace
    assert not _running_processes(f"ray_{os.getpid()}")


def _running_processes(name: str) -> list[str]:
    """Return the command lines of running processes that contain a name."""
    command_lines = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True).stdout
    return [line for line in command_lines.splitlines() if name in line]
