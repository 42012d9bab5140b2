"""Run in a namespace: a search that asks for GPUs on a cluster that has none yet.

The machines are made by Ray's own autoscaler and its provider of fake nodes: processes that call
themselves machines with a GPU. Ray places trials by that GPU; torch, which has none, computes on
the CPU, so :class:`PretendGpus` names that device and nothing else differs from a search.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import AutoscalingCluster
from rich.console import Console

from simreg_core.results.study_lock import StudyLock
from simreg_core.results.tables import ResultStore
from tests.cluster_tests.namespace import ROOT
from tuner.execution.ray_session import Resources, ray_session
from tuner.search import run_search
from tuner.space.loading import load_space
from tuner.study.folder import SearchPlan, create_folder

NUM_NODES, NUM_TRIALS = 3, 6
HEAD_TYPE = "ray.head.default"  # the provider of fake nodes knows no other


class PretendGpus(Resources):
    """One GPU a trial to Ray; the CPU to torch."""

    @property
    def device(self) -> str:
        return "cpu"


class FakeCluster(AutoscalingCluster):  # type: ignore[misc]
    """Ray's fake autoscaling cluster, without the example file that its wheel leaves out."""

    def _generate_config(
        self, head: Mapping[str, Any], types: Mapping[str, Any], **_: Any
    ) -> dict[str, Any]:
        return {
            "cluster_name": "fake",
            "max_workers": NUM_NODES,
            "upscaling_speed": 10,
            "idle_timeout_minutes": 0.1,
            "provider": {
                "type": "fake_multinode",
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "head_node_type": HEAD_TYPE,
            "available_node_types": {
                HEAD_TYPE: {"resources": dict(head), "node_config": {}, "max_workers": 0},
                **types,
            },
            # As this file is not filled with defaults, every key that Ray reads must be here.
            **{f"{kind}_start_ray_commands": [] for kind in ("head", "worker")},
            **{f"{kind}setup_commands": [] for kind in ("", "head_", "worker_")},
            **{"initialization_commands": [], "cluster_synced_files": [], "rsync_exclude": []},
            **{"rsync_filter": [], "file_mounts": {}, "docker": {}, "auth": {}},
            "file_mounts_sync_continuously": False,
        }


class Watch:
    """Numbers of GPU nodes over time, as ``[seconds, nodes]`` wherever they change."""

    def __init__(self) -> None:
        self.changes: list[tuple[float, int]] = []
        self._start = time.monotonic()
        threading.Thread(target=self._look, daemon=True).start()

    def now(self) -> float:
        return round(time.monotonic() - self._start, 1)

    def _look(self) -> None:
        while True:
            alive = [node for node in ray.nodes() if node["Alive"]]
            nodes = sum(node["Resources"].get("GPU", 0) >= 1 for node in alive)
            if not self.changes or self.changes[-1][1] != nodes:
                self.changes.append((self.now(), nodes))
            time.sleep(0.25)


def main(folder: Path) -> None:
    gpu = {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "max_workers": NUM_NODES}
    cluster = FakeCluster({"CPU": 0}, {"gpu": gpu})
    environment = {"RAY_AUTH_MODE": "disabled", "RAY_enable_autoscaler_v2": "0"}
    cluster.start(override_env=environment)
    space = load_space(
        ROOT / "search_spaces/smoke.yaml", [f"tuning.num_trials={NUM_TRIALS}", "name=fake"]
    )
    plan = create_folder(SearchPlan(space, folder.absolute() / "fake"))
    store = ResultStore(plan.folder)
    with ray_session("auto"):
        watch = Watch()
        time.sleep(3)  # none may come unasked
        asked = watch.now()
        resources = PretendGpus(cpus=1, gpus=1, max_concurrent=NUM_NODES)
        with StudyLock(plan.folder) as lock:
            counts, _ = run_search(plan, store, resources, Console(stderr=True), lock)
        ended = watch.now()
        while watch.changes[-1][1] and watch.now() < ended + 90:
            time.sleep(0.25)
    report: dict[str, Any] = {"asked": asked, "ended": ended, "complete": counts["complete"]}
    report |= {"nodes": watch.changes, "rows": len(store.read("trials"))}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
