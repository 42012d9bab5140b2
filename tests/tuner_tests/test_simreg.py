from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from simreg_core import cli
from simreg_core.version import __version__
from tuner.simreg import COMMANDS, main, script


def test_help_lists_every_command_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("  ")]
    assert shown == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_the_module_of_python_m(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(COMMANDS[name][0])
    assert callable(module.main)
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"python -m {COMMANDS[name][0].removesuffix('.__main__')}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"), [(["serach"], "'serach'"), (["status"], "required")]
)
def test_mistake_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_arguments_are_passed_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_installed_program_advises_its_own_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.program("tuner.run") == "python -m tuner.run"
    monkeypatch.setattr(cli, "_programs", {})
    monkeypatch.setattr("sys.argv", ["simreg", "status", "--help"])
    with pytest.raises(SystemExit):
        script()
    assert capsys.readouterr().out.startswith("usage: simreg status ")
    assert cli.program("tuner.run") == "simreg search"
    assert cli.program("analysis.report") == "simreg report"
