"""A Ray cluster that grows: an autoscaler on this machine starts a node of one core for each demand that it sees.

`ray.cluster_utils.AutoscalingCluster` is not used: it stops every Ray on the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PORT = 6379  # the nodes that Ray's simulated provider starts look for their head there
_HEAD = "ray.head.default"
_CONFIG = {
    "cluster_name": "growing",
    "max_workers": 2,
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "available_node_types": {
        _HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "one_core": {
            "resources": {"CPU": 1, "object_store_memory": 10**8},
            "node_config": {},
            "min_workers": 1,
            "max_workers": 2,
        },
    },
    "head_node_type": _HEAD,
    "auth": {},
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "docker": {},
    **{f"{when}_commands": [] for when in ("initialization", "setup", "head_setup", "worker_setup")},
    **{f"{where}_start_ray_commands": [] for where in ("head", "worker")},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
}


@contextmanager
def growing_cluster(home: Path, **environment: str) -> Iterator[str]:
    """Start a cluster with one node of one core, which may get a second one; yield its address."""
    (home / "cluster.yaml").write_text(json.dumps(_CONFIG))
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--num-cpus=0", f"--port={PORT}", "--include-dashboard=false"]
    command += [f"--autoscaling-config={home / 'cluster.yaml'}", f"--temp-dir={home}", "--disable-usage-stats"]
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    with subprocess.Popen(
        command, env=os.environ | settings | environment, start_new_session=True, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield f"127.0.0.1:{PORT}"
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            subprocess.run(["pkill", "-9", "-f", f"{home}/"])  # the nodes that the autoscaler started
