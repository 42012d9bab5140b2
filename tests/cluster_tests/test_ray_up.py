from __future__ import annotations

import pytest

from tests.cluster_tests.namespace import needs, run_inside

pytestmark = [pytest.mark.namespace, pytest.mark.slow]


@needs("sshd", "ssh", "ssh-keygen", "rsync")
def test_the_list_of_machines_runs_a_search_with_the_token_on_both() -> None:
    report = run_inside("tests.cluster_tests.ray_up", timeout_s=800)
    assert report["statuses"] == ["complete", "complete"]
    assert not report["token_before"]
    assert report["token_same"]
    assert report["refused_without_token"]
    assert report["raylets_left"] == 0
