from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from simreg_core import registry
from simreg_core.errors import ConfigError
from simreg_core.registry import (
    ATTACKS,
    CORRUPTIONS,
    DATASETS,
    METRICS,
    NETWORKS,
    TARGETS,
    Attack,
    Registry,
)

MakeModule = Callable[[str], Path]
Install = Callable[..., Registry[Attack]]
SOURCE = """
    from simreg_core.registry import attack, target

    @attack("stripes", max_epsilon=0.3, reference=0.2, label="broad stripes")
    def stripes(batch):
        return lambda epsilon: batch.images

    @target("sameness")
    def sameness(source):
        return source.pixels

    def plain(batch):
        return lambda epsilon: batch.images
"""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs entry points; returns a registry of attacks that has not looked yet."""

    def make(*values: str) -> Registry[Attack]:
        def entry_points(*, group: str) -> list[EntryPoint]:
            assert group == "simreg"
            return [EntryPoint(f"point{n}", value, group) for n, value in enumerate(values)]

        monkeypatch.setattr(registry, "entry_points", entry_points)
        return Registry(Attack, "simreg_core.robustness")

    return make


KINDS: dict[str, Registry[Any]] = {
    "attack": ATTACKS,
    "corruption": CORRUPTIONS,
    "dataset": DATASETS,
    "target": TARGETS,
    "network": NETWORKS,
    "metric": METRICS,
}


@pytest.mark.parametrize("kind", KINDS)
def test_own_components_are_known_by_their_names(kind: str) -> None:
    known = KINDS[kind]
    for component in known.own.values():
        assert known.get(component.written) == component
    assert not any(component.is_foreign for component in known.own.values())
    with pytest.raises(ConfigError, match=f"^unknown {kind} 'gausian'; allowed: ") as caught:
        known.get("gausian")
    allowed = str(caught.value).replace(",", "").split()
    assert {component.written for component in known.own.values()} <= set(allowed)


def test_function_of_a_module_is_a_component_with_or_without_a_declaration(
    make_module: MakeModule,
) -> None:
    make_module(SOURCE)
    found = ATTACKS.get("mine:stripes")
    assert (found.name, found.title) == ("mine:stripes", "broad stripes")
    assert (found.max_epsilon, found.reference, found.is_foreign) == (0.3, 0.2, True)
    assert "mine:stripes" not in ATTACKS.known
    bare = ATTACKS.get("mine:plain")
    assert (bare.title, bare.max_epsilon, bare.is_foreign) == ("mine:plain", None, True)
    with pytest.raises(ConfigError, match=r"^mine:plain: .*simreg_core\.registry\.metric$"):
        METRICS.get("mine:plain")
    with pytest.raises(ConfigError, match=r"^mine:sameness: .*kind target, not attack$"):
        ATTACKS.get("mine:sameness")


def test_every_corruption_is_an_attack(make_module: MakeModule) -> None:
    make_module("def fade(images, severity, rng): return images * (1 - severity / 5)")
    for kind, is_foreign in (("contrast", False), ("mine:fade", True)):
        found = ATTACKS.get(ATTACKS.require(f"corruption:{kind}"))
        assert (found.name, found.title) == (f"corruption:{kind}", CORRUPTIONS.get(kind).title)
        assert (found.max_epsilon, found.reference, found.is_foreign) == (5, 3, is_foreign)
    for use in (ATTACKS.get, ATTACKS.require):
        with pytest.raises(ConfigError, match=r"^unknown attack 'fog'; allowed: .*corruption:KIND"):
            use("fog")
        with pytest.raises(ConfigError, match=r"^unknown corruption 'fog'; allowed: .*contrast"):
            use("corruption:fog")


def test_entry_points_add_the_components_of_their_kind_once(
    make_module: MakeModule, install: Install
) -> None:
    path = make_module(SOURCE)
    for values in (["mine"], ["mine:stripes"], ["mine", "mine:stripes"]):
        attacks = install(*values)
        assert list(attacks.known) == [*attacks.own, "stripes"]
        assert attacks.get("stripes").is_foreign
        attacks.require("stripes")
    path.with_name("mine_too.py").write_text(path.read_text())
    with pytest.raises(ConfigError, match="'stripes' is declared twice"):
        _ = install("mine", "mine_too").known


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "^entry point mine: division by zero$"),
        ("raise SystemExit(3)", "^entry point mine: system exit 3$"),
        (SOURCE.replace('"stripes"', '"gaussian"'), "^attack 'gaussian' is declared twice$"),
    ],
    ids=["raises", "leaves", "duplicate"],
)
def test_broken_entry_point_is_one_line(
    source: str, message: str, make_module: MakeModule, install: Install
) -> None:
    make_module(source)
    attacks = install("mine")
    assert "gaussian" in attacks.own  # what belongs to this project needs no entry point
    with pytest.raises(ConfigError, match=message):
        attacks.get("gaussian")
