"""What the documentation says is there, and its examples work."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docs.generate import pages
from simreg_core.config.protocols import merge
from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import parse_yaml
from tests.core_tests.measuring import run
from tests.documents import PAGES, ROOT, Block, blocks, parser_of, prose, space_text
from tuner.simreg import COMMANDS
from tuner.space.loading import load_space

LANGUAGES = {"shell", "bash", "yaml", "python", "toml", "text", "mermaid"}
OTHER_PROGRAMS = {"ray", "aws", "cat", "ssh", "optuna-dashboard"}
FLAGS_OF = {"search.md": ["tuner.run"], "audit.md": ["simreg_core.audit"]} | {
    "analysis.md": [f"analysis.{name}" for name in ("pareto", "report", "serve")]
}
a_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
EVERY = [block for page in PAGES for block in blocks(page)]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def of(language: str) -> pytest.MarkDecorator:
    found = [block for block in EVERY if block.language == language]
    names = [f"{block.page.name}:{block.line}" for block in found]
    return pytest.mark.parametrize("block", found, ids=names)


def test_readme_fits_on_a_few_screens() -> None:
    assert len(_read("README.md").splitlines()) <= 150


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in EVERY} <= LANGUAGES
    notes = {block.note for block in EVERY if block.note}
    assert all(re.match(r"(not run|needs): \S", note) for note in notes)


@of("shell")
def test_every_command_is_one_that_its_program_accepts(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    for words in block.commands():
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            del words[0]
        program, *arguments = words
        if program == "make":
            assert re.search(rf"^{re.escape(arguments[0])}:", _read("Makefile"), re.MULTILINE)
        elif program == "pip":
            _check_packages(arguments[1:])
        elif program == "python":
            assert arguments[0] == "-m"
            _check_program(*arguments[1:])
        else:
            assert program in OTHER_PROGRAMS
            assert not block.is_run


def _check_packages(packages: list[str]) -> None:
    for package in packages:
        own = re.fullmatch(r"simreg-tune\[(.*)\]", package)
        assert not own or set(own[1].split(",")) <= set(PROJECT["optional-dependencies"])
        pinned = re.fullmatch(r"(\w+)\[\w+\]==(.*)", package)
        assert not pinned or f"\n{pinned[1]}=={pinned[2]}\n" in _read("constraints.txt")


def _check_program(module: str, *arguments: str) -> None:
    if module not in ("pytest", "docs.generate"):
        parser_of(module, arguments)
    files = [word for word in arguments if re.match(r"(search_spaces|tests|benchmarks)/", word)]
    assert [name for name in files if not (ROOT / name).exists()] == []


@of("bash")
def test_scripts_are_scripts(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@of("toml")
def test_toml_is_toml(block: Block) -> None:
    assert tomllib.loads(block.text)


@of("yaml")
def test_space_files_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_my_module(block.page, tmp_path, monkeypatch)
    (tmp_path / "space.yaml").write_text(space_text(block.text))
    assert load_space(tmp_path / "space.yaml").objectives


def _write_my_module(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the Python blocks of a page into the module whose name its space files use."""
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)
    monkeypatch.syspath_prepend(folder)
    code = [block.text for block in blocks(page, "python") if block.is_run and not block.needs]
    (folder / "my_module.py").write_text("\n".join(code))


def test_own_components_work_in_a_trial(
    tiny_trial: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs" / "extending.md"
    _write_my_module(page, tmp_path, monkeypatch)
    trial = tiny_trial({"training.epochs": 1})
    del trial["model"]
    for block in blocks(page, "yaml"):
        if "my_module" in block.text:
            trial = merge(trial, parse_yaml(block.text, "block")["trial"])
    trial = merge(trial, {"robustness": {"metrics": ["my_module:worst_accuracy"]}})
    result = run(TrialConfig.from_dict(trial), tmp_path)
    assert result.metric("my_module:worst_accuracy", "test") is not None
    assert result.model.state_dict()["network.6.weight"].shape == (10, 8)
    assert "corruption:my_module:fading" in {point.attack for point in result.curves}


def test_python_blocks_of_the_library_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = [block for block in EVERY if block.language == "python" and block.is_run]
    # Those of extending.md run in a trial.
    code = [block for block in code if not block.needs and block.page.name != "extending.md"]
    assert {block.page.name for block in code} == {"library.md", "space-file.md"}
    names: dict[str, Any] = {"__name__": "page"}
    for block in sorted(code, key=lambda block: block.page.name != "space-file.md"):
        exec(compile(block.text, f"{block.page.name}:{block.line}", "exec"), names)
    predicted = names["model"](names["images"]).argmax(dim=1)  # by the exported network
    assert predicted.tolist() == names["predicted"].tolist()


@a_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def _anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes links of them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@a_page
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    words = re.findall(r"`([^`\s]+)`", prose(page))
    folders = r"(simreg_core|tuner|analysis|tests|benchmarks|docs|examples|search_spaces)"
    files = [word for word in words if re.match(rf"{folders}/", word)]
    assert [name for name in files if not (ROOT / name).exists()] == []
    for word in words:
        if re.fullmatch(rf"{folders}(\.\w+)+", word) and not (ROOT / word).exists():
            _find(word)


def _find(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
        return getattr(_find(module), last)


@pytest.mark.parametrize("page", FLAGS_OF)
def test_pages_have_every_flag_of_their_commands(page: str, tmp_path: Path) -> None:
    text = _read(f"docs/{page}")
    for module in FLAGS_OF[page]:
        parser = parser_of(module, [] if module == "tuner.run" else [str(tmp_path)])
        flags = {flag for action in parser._actions for flag in action.option_strings}
        needed = {flag for flag in flags - {"--help", "--figures"} if flag.startswith("--")}
        assert {flag for flag in needed if flag not in text} == set(), module


def test_every_command_of_simreg_is_in_the_documentation() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    modules = [module.removesuffix(".__main__") for module, _ in COMMANDS.values()]
    assert [module for module in modules if f"python -m {module}" not in text] == []


@pytest.mark.parametrize("name", ["space-file.md", "results.md"])
def test_references_are_those_of_the_code(name: str) -> None:
    path = ROOT / "docs" / name
    assert path.read_text(encoding="utf-8") == pages()[path], "run python -m docs.generate"


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
