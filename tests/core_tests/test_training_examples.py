"""The training loops of ``examples/`` that use the regularizer as a library."""

from __future__ import annotations

import re

import pytest

from examples import own_loop
from simreg_core.networks.libraries import define_missing_operators


def test_own_loop_trains_both_networks(capsys: pytest.CaptureFixture[str]) -> None:
    own_loop.main(epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["alpha 0", "alpha 0.1"]
    assert all(float(re.findall(r"\.\d+", line.split(":")[1])[0]) > 0.8 for line in lines)


@pytest.mark.filterwarnings("ignore")  # Lightning warns of few workers, and more
def test_lightning_loop_trains_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    define_missing_operators()  # Lightning imports torchvision
    pytest.importorskip("lightning")
    from examples import lightning_loop

    lightning_loop.main(epochs=2)
    found = re.search(r"accuracy (\S+),", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 0.8
