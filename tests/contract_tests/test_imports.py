from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract_tests.imports import ROOT, imports, module_name, sources

PACKAGES = ("simreg_core", "tuner", "analysis")

FORBIDDEN = {
    "simreg_core": {"ray", "optuna", "matplotlib", "pandas", "tuner", "analysis"},
    "tuner": {"analysis"},
    "analysis": {"torch", "torchvision", "ray", "foolbox", "tuner"},
}
ANALYSIS_MAY_IMPORT = tuple(
    f"simreg_core.{wing}"
    for wing in ("errors", "cli", "config", "registry", "storage", "statistics", "results")
)


def _imports(package: str) -> list[tuple[Path, str]]:
    """The files of a package, each with every name that it imports."""
    return [(path, name) for path in sources(package) for name in imports(path)]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, name in _imports(package)
        if name.partition(".")[0] in FORBIDDEN[package]
    ]
    assert wrong == []


def test_analysis_imports_only_the_wings_of_the_core_that_need_no_torch() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, name in _imports("analysis")
        if name.startswith("simreg_core") and not name.startswith(ANALYSIS_MAY_IMPORT)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "library", "owner"),
    [
        ("simreg_core", "foolbox", "foolbox_bridge.py"),
        ("simreg_core", "safetensors", "export.py"),
        ("simreg_core", "yaml", "yaml_io.py"),
        ("analysis", "optuna", "importance.py"),
    ],
)
def test_library_has_one_importer(package: str, library: str, owner: str) -> None:
    found = {path.name for path, name in _imports(package) if name.partition(".")[0] == library}
    assert found == {owner}


def test_global_random_numbers_are_seeded_in_one_place() -> None:
    """A generator that is passed in may be seeded; the library-wide ones only in ``seeding``."""
    wide = {"torch.manual_seed", "torch.random.set_rng_state", "np.random.seed", "random.seed"}
    users = {
        path.name
        for path in sources("simreg_core")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in wide
    }
    assert users == {"seeding.py"}


def _loaded_after(code: str, asked: set[str]) -> set[str]:
    """Which of the asked libraries a fresh interpreter has loaded after running code."""
    code += f"\nimport sys; print(*[name for name in {sorted(asked)!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


WITHOUT_TORCH = ("results.schema", "config.trial", "config.yaml_io")


def test_records_and_configuration_are_imported_without_torch() -> None:
    modules = ["simreg_core", *(f"simreg_core.{name}" for name in WITHOUT_TORCH)]
    assert _loaded_after(f"import {', '.join(modules)}", {"torch", "foolbox", "sklearn"}) == set()


@pytest.mark.parametrize(
    ("package", "libraries"),
    [
        ("simreg_core", "ray optuna matplotlib pandas foolbox sklearn"),
        ("analysis", "torch ray foolbox optuna"),
    ],
)
def test_importing_a_package_loads_none_of_the_libraries(package: str, libraries: str) -> None:
    names = [module_name(path) for path in sources(package)]
    modules = [name for name in names if not name.endswith("__main__")]
    assert _loaded_after(f"import {', '.join(modules)}", set(libraries.split())) == set()
