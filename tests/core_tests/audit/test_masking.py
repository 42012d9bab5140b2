from __future__ import annotations

from typing import Any

import pytest

from simreg_core.audit.masking import (
    AuditCurve,
    MinimalNorms,
    exceeds,
    masking_warnings,
    weakness_warnings,
)

EPSILONS = (0.1, 0.2, 0.5)
STRONG = (0.5, 0.2, 0.0)


def _curve(accuracies: tuple[float, ...], attack: str = "pgd_linf") -> AuditCurve:
    return AuditCurve(attack, "linf", "10 steps", 200, EPSILONS, accuracies)


def _norms(median: float | None, attack: str = "deepfool_l2") -> MinimalNorms:
    return MinimalNorms(attack, "50 steps", 30, 1.0, median)


def _warnings(
    strong: tuple[float, ...] = STRONG,
    few: tuple[float, ...] = (0.52, 0.22, 0.0),
    one_restart: tuple[float, ...] = (0.51, 0.2, 0.0),
    black_box: tuple[float, ...] = (0.8, 0.7, 0.6),
    gradient: float | None = 1.0,
    decision_based: float | None = 1.2,
) -> list[str]:
    return masking_warnings(
        _curve(strong),
        _curve(few),
        _curve(one_restart),
        [_curve(black_box, "transfer_fgsm")],
        [_norms(gradient), _norms(None, "carlini_wagner_l2")],
        _norms(decision_based, "hop_skip_jump"),
    )


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param({}, id="sound"),
        pytest.param({"black_box": (0.46, 0.17, 0.0), "few": (0.46, 0.17, 0.0)}, id="noise"),
        pytest.param({"gradient": None, "decision_based": None}, id="no norms"),
    ],
)
def test_harmless_figures_warn_of_nothing(figures: dict[str, Any]) -> None:
    assert _warnings(**figures) == []


@pytest.mark.parametrize(
    ("figures", "fragments"),
    [
        ({"black_box": (0.8, 0.02, 0.6)}, ["transfer_fgsm", "0.2:", "0.020"]),
        ({"few": (0.3, 0.2, 0.0)}, ["more steps", "0.1:", "0.300"]),
        (dict.fromkeys(("strong", "few", "one_restart"), (0.5, 0.2, 0.06)), ["0.060", "0.5,"]),
        ({"one_restart": (0.75, 0.2, 0.0)}, ["restarts", "0.1:", "0.750"]),
        ({"decision_based": 0.8}, ["hop_skip_jump", "0.8", "30"]),
        ({"gradient": None}, ["hop_skip_jump", "1.2", "none"]),
    ],
    ids=["black box", "steps", "large epsilon", "restarts", "decisions", "no gradients"],
)
def test_each_sign_warns_alone(figures: dict[str, Any], fragments: list[str]) -> None:
    (warning,) = _warnings(**figures)
    assert all(fragment in warning for fragment in fragments)


def test_pgd_that_leaves_much_more_than_auto_attack_is_named() -> None:
    auto = _curve((0.45, 0.2, 0.0), "auto_attack")
    assert weakness_warnings(_curve((0.5, 0.15, 0.0)), auto) == []
    (warning,) = weakness_warnings(_curve((0.51, 0.15, 0.0)), auto)
    assert all(text in warning for text in ("auto_attack", "0.1:", "0.450", "0.510", "200"))


@pytest.mark.parametrize(
    ("one", "other", "is_above"),
    [(0.58, 0.5, False), (0.62, 0.5, True), (0.005, 0.0, False), (0.3, 0.6, False)],
)
def test_noise_is_two_standard_errors_and_an_image(
    one: float, other: float, is_above: bool
) -> None:
    assert exceeds(one, other, 200) == is_above
