from __future__ import annotations

import pytest

from tests.cluster_tests.namespace import needs, run_inside

pytestmark = [pytest.mark.namespace, pytest.mark.slow]


@needs()
def test_gpu_nodes_come_for_a_search_and_go_when_it_is_over() -> None:
    report = run_inside("tests.cluster_tests.autoscaling", timeout_s=800)
    before = [nodes for second, nodes in report["nodes"] if second < report["asked"]]
    assert before == [0]
    assert max(nodes for _, nodes in report["nodes"]) == 3
    assert report["nodes"][-1][1] == 0
    assert report["nodes"][-1][0] > report["ended"]
    assert report["complete"] == report["rows"] == 6
