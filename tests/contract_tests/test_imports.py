from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("simreg_core", "tuner", "analysis")

FORBIDDEN = {
    "simreg_core": {"ray", "optuna", "matplotlib", "pandas", "tuner", "analysis"},
    "tuner": {"analysis"},
    "analysis": {"torch", "torchvision", "ray", "foolbox", "tuner"},
}
ANALYSIS_MAY_IMPORT = tuple(
    f"simreg_core.{name}"
    for name in (
        *("records", "config", "config_io", "cli", "driver_file", "files", "places"),
        *("front", "parameter_points", "response_surface"),
    )
)


def _sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _modules(package: str) -> list[str]:
    """Dotted names of a package's modules, the programs among them left out."""
    names = []
    for path in _sources(package):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def _is_package(name: str) -> bool:
    return (ROOT.joinpath(*name.split(".")) / "__init__.py").exists()


def _imports(path: Path) -> Iterator[str]:
    """Full dotted names of everything that a file imports, at its top or inside a function."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            # `from package import module` imports the module, not a name of the package.
            yield from (
                f"{module}.{alias.name}" if _is_package(module) else module for alias in node.names
            )


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in _sources(package)
        for name in _imports(path)
        if name.partition(".")[0] in FORBIDDEN[package]
    ]
    assert wrong == []


def test_analysis_knows_of_the_core_its_records_and_models_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in _sources("analysis")
        for name in _imports(path)
        if name.partition(".")[0] == "simreg_core"
        and not name.startswith(tuple(ANALYSIS_MAY_IMPORT))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("library", "owner"),
    [("foolbox", "foolbox_bridge.py"), ("safetensors", "export.py"), ("yaml", "config_io.py")],
)
def test_library_has_one_importer_in_the_core(library: str, owner: str) -> None:
    importers = [
        path.name
        for path in _sources("simreg_core")
        if any(name.partition(".")[0] == library for name in _imports(path))
    ]
    assert importers == [owner]


def test_optuna_has_one_importer_in_the_analysis() -> None:
    importers = [
        path.name
        for path in _sources("analysis")
        if any(name.partition(".")[0] == "optuna" for name in _imports(path))
    ]
    assert importers == ["importance.py"]


def test_global_random_numbers_are_seeded_in_one_place() -> None:
    """A generator that is passed in may be seeded; the library-wide ones only in ``seeding``."""
    wide = {"torch.manual_seed", "torch.random.set_rng_state", "np.random.seed", "random.seed"}
    users = {
        path.name
        for path in _sources("simreg_core")
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
    "module", ["simreg_core", "simreg_core.records", "simreg_core.config", "simreg_core.config_io"]
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
