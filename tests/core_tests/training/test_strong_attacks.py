"""Trials that are measured under queries, iterated transferred attacks and corruptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simreg_core.results.objectives import objective
from simreg_core.results.schema import SPLITS
from tests.core_tests.conftest import MakeModule
from tests.core_tests.measuring import run
from tests.core_tests.trained_networks import MakeConfig

ATTACKS: dict[str, Any] = {
    "square": {"max_epsilon": 0.2, "options": {"queries": 40}},
    "transfer_fgsm": {"max_epsilon": 0.2},
    "transfer_pgd": {"max_epsilon": 0.2, "options": {"steps": 3}},
    "transfer_mifgsm": {"max_epsilon": 0.2, "options": {"steps": 3}},
    "corruption:contrast": {},
}
REFERENCE = {name: 0.2 for name in ATTACKS} | {"corruption:contrast": 5}


def test_all_of_them_have_curves_and_count_towards_robust_accuracy(
    tiny_config: MakeConfig, tmp_path: Path
) -> None:
    changes = {"robustness.attacks": ATTACKS, "robustness.reference": REFERENCE}
    config = tiny_config({**changes, "training.epochs": 8})
    result, again = (run(config, tmp_path / name) for name in ("one", "other"))
    assert result.curves == again.curves
    for split in SPLITS:
        found = {p.attack: p.accuracy for p in result.curves if p.split == split and p.is_reference}
        assert list(found) == list(ATTACKS)
        assert result.metric("robust_accuracy", split) == pytest.approx(sum(found.values()) / 5)
        for name, accuracy in found.items():
            assert objective(f"robust_accuracy.{name}").direction == "maximize"
            assert result.metric(f"robust_accuracy.{name}", split) == accuracy
        clean = result.metric("clean_accuracy", split)
        assert clean is not None
        assert found["square"] < clean - 0.1


SPY = """
    from simreg_core.registry import attack

    seen = []

    def run(batch):
        seen.append(batch.scores is not None and batch.scores(batch.images).requires_grad)
        seen.append(batch.scores is None)
        return lambda epsilon: batch.images

    blind = attack("blind", max_epsilon=0.1, reference=0.1)(run)
    asking = attack("asking", max_epsilon=0.1, reference=0.1, queries=True)(run)
"""


@pytest.mark.parametrize(("name", "is_blind"), [("blind", True), ("asking", False)])
def test_only_attacks_that_declare_queries_see_scores(
    name: str, is_blind: bool, make_module: MakeModule, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    make_module(SPY)
    name = f"mine:{name}"
    run(
        tiny_config({"robustness.attacks": {name: {}}, "robustness.reference": [name]}),
        tmp_path / "cache",
    )
    import mine  # type: ignore[import-not-found]

    assert set(mine.seen[::2]) == {False}
    assert set(mine.seen[1::2]) == {is_blind}
