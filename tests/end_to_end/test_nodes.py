"""A search on a cluster of several nodes, one of which is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.end_to_end.searches import (
    SLOW,
    Search,
    assert_all_tables_readable,
    checkpoint,
    finished,
    pairs,
    running,
    wait_until,
)
from tuner.execution.ray_session import set_environment

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def nodes(ray_folder: Path) -> Iterator[Cluster]:
    """A head without CPUs, so that every trial is on a node that can be lost."""
    set_environment()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield cluster
    cluster.shutdown()


def test_trials_of_a_lost_node_go_on_on_another(good: Search, output: Path, nodes: Cluster) -> None:
    first = nodes.add_node(num_cpus=1)
    flags = [*pairs(SLOW, SLOW), "--address", nodes.address]
    with running(output, "nodes", *flags) as process:
        folder = output / "nodes"
        wait_until(checkpoint(folder, 0).exists, process)
        nodes.add_node(num_cpus=1)
        nodes.remove_node(first, allow_graceful=False)
        search = finished(process, folder)
    assert search.code == 0, search.errors
    again = re.search(r"trial (\d) starts again \(1 of 3\): ", search.errors)
    assert again is not None, search.errors
    assert search.states == ["COMPLETE"] * 2
    assert sorted(search.table("trials")["trial"]) == [0, 1]
    epochs = search.table("epochs")
    assert sorted(epochs[epochs["trial"] == int(again[1])]["epoch"]) == [0, 1]
    assert_all_tables_readable(search)
