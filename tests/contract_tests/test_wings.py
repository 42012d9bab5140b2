"""Imports between wings point down, and no modules import each other in a circle."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest

from tests.contract_tests.imports import ROOT, imports, module_name, sources

# From the bottom up. A wing may import what stands on a line above its own. Wings and modules that
# share a line may not import each other, except the foundation's, which are ordered by themselves.
LEVELS = {
    "simreg_core": (
        "version errors seeding plugins registry provenance storage statistics output cli",
        "config",
        "data networks results",
        "regularizer robustness",
        "training neural",
        "audit",
        "datasets __main__ __init__",
    ),
    "tuner": (
        "__init__ space loggers",
        "study",
        "execution",
        "search",
        "confirmation",
        "run confirm export status cluster simreg",
    ),
    "analysis": ("__init__ results", "findings", "charts", "pareto report poster", "compare serve"),
}
FOUNDATION = set(LEVELS["simreg_core"][0].split())


def wing_of(module: str) -> str:
    """The second part of a module's name: its wing, or itself at a package's root."""
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("package", LEVELS)
def test_imports_between_wings_point_down(package: str) -> None:
    level = {wing: n for n, wings in enumerate(LEVELS[package]) for wing in wings.split()}
    wrong = []
    for path in sources(package):
        own = wing_of(module_name(path))
        for target in imports(path):
            if target.partition(".")[0] != package:
                continue
            other = wing_of(target)
            same_foundation = package == "simreg_core" and {own, other} <= FOUNDATION
            if own != other and not same_foundation and level[other] >= level[own]:
                wrong.append(f"{path.relative_to(ROOT)}: {target}")
    assert wrong == []


@pytest.mark.parametrize("package", LEVELS)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    names = {module_name(path) for path in sources(package)}
    graph = {module_name(path): set(imports(path)) & names for path in sources(package)}
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as err:
        circle = err.args[1]
    assert circle == []
