from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from simreg_core.errors import ConfigError
from tests.tuner_tests.spaces import changed
from tuner.run import main
from tuner.space.loading import load_space, shipped_spaces

ROOT = Path(__file__).parents[3]


def test_space_is_found_by_its_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "th_alpha").mkdir()  # perhaps results
    assert load_space("th_alpha") == load_space(ROOT / "search_spaces" / "th_alpha.yaml")
    assert load_space("poster/cost").name == load_space(str(shipped_spaces()["poster/cost"])).name
    assert main(["--space", "smoke", "--dry-run", "--output", "out"]) == 0
    assert "smoke: " in capsys.readouterr().out


def test_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "th_alpha").write_text(changed())
    assert load_space("th_alpha").name == "tiny"


def test_unknown_name_is_one_line_with_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^th_alhpa: no such file; .*smoke, th_alpha"):
        load_space("th_alhpa")


def test_package_has_every_space_file() -> None:
    expected = {
        path.relative_to(ROOT / "search_spaces")
        for path in (ROOT / "search_spaces").rglob("*.yaml")
    }
    with (ROOT / "pyproject.toml").open("rb") as stream:
        (pattern,) = tomllib.load(stream)["tool"]["setuptools"]["package-data"]["tuner"]
    inside = ROOT / "tuner" / "search_spaces"
    top = {path.relative_to(inside) for path in inside.glob("*.yaml")}
    assert top | {path.relative_to(inside) for path in inside.glob("*/*.yaml")} == expected
    assert pattern == "search_spaces/**/*.yaml"
    assert {Path(f"{name}.yaml") for name in shipped_spaces()} == expected
