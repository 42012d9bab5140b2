from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simreg_core.errors import ConfigError
from simreg_core.results.request import SPACE_FILE
from simreg_core.results.schema import TABLES
from simreg_core.results.tables import ResultStore
from tests.tuner_tests.spaces import ALPHA, GOOD_SPACE, make_space
from tuner.search import check_data
from tuner.space.loading import load_space
from tuner.study.folder import SearchPlan, create_folder


@pytest.fixture
def plan(tmp_path: Path) -> SearchPlan:
    output = tmp_path / "deep" / "output"
    return SearchPlan(make_space(tmp_path), output / "tiny")


def test_new_folder_has_the_tables_and_the_space_as_used(plan: SearchPlan) -> None:
    folder = create_folder(plan).folder
    assert {path.name for path in plan.folder.iterdir()} == {*TABLES, SPACE_FILE}
    assert load_space(plan.folder / SPACE_FILE) == plan.space
    assert all(ResultStore(folder).read(table) == [] for table in TABLES)


def test_folder_that_exists_is_refused_if_you_named_it_and_else_numbered(plan: SearchPlan) -> None:
    plan.folder.mkdir(parents=True)
    (plan.folder / "mine").touch()
    with pytest.raises(ConfigError, match=f"^{plan.folder} exists; choose another --name"):
        create_folder(plan)
    assert [path.name for path in plan.folder.iterdir()] == ["mine"]
    assert list(plan.folder.parent.iterdir()) == [plan.folder]
    unnamed = replace(plan, is_named=False)
    assert [create_folder(unnamed).folder.name for _ in range(2)] == ["tiny-2", "tiny-3"]


def test_nothing_is_left_where_the_tables_cannot_be_made(
    plan: SearchPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: ResultStore) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ResultStore, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create_folder(plan)
    assert list(plan.folder.parent.iterdir()) == []


def test_file_in_place_of_the_output_is_refused_by_what_is_wrong(plan: SearchPlan) -> None:
    output = plan.folder.parent
    output.parent.mkdir()
    output.touch()
    with pytest.raises(
        ConfigError, match=f"^{plan.folder}: cannot be written: {output}: File exists$"
    ):
        create_folder(plan)


@pytest.mark.parametrize(
    ("robustness", "message"),
    [
        (
            "{attacks: {'absent:attack': {max_epsilon: 0.1}}, reference: {'absent:attack': 0.1}}",
            r"^space: trial\.robustness\.attacks\.absent:attack: module 'absent' cannot be",
        ),
        (
            "{attacks: {gaussian: {max_epsilon: 0.1, options: {x: 1}}}, "
            "reference: {gaussian: 0.1}}",
            r"^space: trial\.robustness\.attacks\.gaussian\.options\.x: unknown option",
        ),
        (
            "{corruptions: {folder: /absent}}",
            r"^space: trial\.robustness\.corruptions\.folder: /absent does not exist",
        ),
    ],
    ids=["plug-in", "option", "folder"],
)
def test_what_cannot_be_measured_is_refused_before_the_search(
    robustness: str, message: str, tmp_path: Path
) -> None:
    old = GOOD_SPACE[GOOD_SPACE.index("  robustness:") : GOOD_SPACE.index("search:")]
    space = make_space(tmp_path, (old, f"  robustness: {robustness}\n"))
    with pytest.raises(ConfigError, match=message):
        check_data(space, "space")


def test_missing_regularization_images_are_refused_even_if_the_first_alpha_is_0(
    tmp_path: Path,
) -> None:
    alpha = "regularizer.alpha: {type: categorical, choices: [0.0, 1.0]}"
    images = "regularizer: {dataset: 'folder:/absent', num_images"
    space = make_space(tmp_path, (ALPHA, alpha), ("regularizer: {num_images", images))
    with pytest.raises(ConfigError, match=r"^space: trial\.regularizer\.dataset: /absent is not"):
        check_data(space, "space")
