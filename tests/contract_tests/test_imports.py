from __future__ import annotations

import ast
import subprocess
import sys

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


def _modules(package: str) -> list[str]:
    """Dotted names of a package's modules, the programs among them left out."""
    names = [module_name(path) for path in sources(package)]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(package)
        for name in imports(path)
        if name.partition(".")[0] in FORBIDDEN[package]
    ]
    assert wrong == []


def test_analysis_knows_of_the_core_its_records_and_models_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources("analysis")
        for name in imports(path)
        if name.partition(".")[0] == "simreg_core"
        and not name.startswith(tuple(ANALYSIS_MAY_IMPORT))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("library", "owner"),
    [("foolbox", "foolbox_bridge.py"), ("safetensors", "export.py"), ("yaml", "yaml_io.py")],
)
def test_library_has_one_importer_in_the_core(library: str, owner: str) -> None:
    importers = [
        path.name
        for path in sources("simreg_core")
        if any(name.partition(".")[0] == library for name in imports(path))
    ]
    assert importers == [owner]


def test_optuna_has_one_importer_in_the_analysis() -> None:
    importers = [
        path.name
        for path in sources("analysis")
        if any(name.partition(".")[0] == "optuna" for name in imports(path))
    ]
    assert importers == ["importance.py"]


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


def _loaded_after(modules: list[str], asked: set[str]) -> set[str]:
    """Which of the asked libraries a fresh interpreter has loaded after importing modules."""
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {sorted(asked)!r} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "simreg_core",
        "simreg_core.results.schema",
        "simreg_core.config.trial",
        "simreg_core.config.yaml_io",
    ],
)
def test_module_is_imported_without_torch(module: str) -> None:
    assert _loaded_after([module], {"torch", "foolbox", "sklearn"}) == set()


def test_importing_the_core_loads_nothing_of_a_search() -> None:
    asked = {"ray", "optuna", "matplotlib", "pandas", "foolbox", "sklearn"}
    assert _loaded_after(_modules("simreg_core"), asked) == set()


def test_importing_the_analysis_loads_no_torch_and_no_ray() -> None:
    modules = _modules("analysis")
    if not modules:
        pytest.skip("there is no analysis yet")
    assert _loaded_after(modules, {"torch", "ray", "foolbox", "optuna"}) == set()
