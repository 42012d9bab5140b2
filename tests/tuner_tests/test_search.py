from __future__ import annotations

from pathlib import Path

import pytest

from simreg_core.config_io import ConfigError
from simreg_core.records import TABLES
from tests.tuner_tests.spaces import make_space
from tuner.search import SPACE_FILE, SearchPlan, create_folder
from tuner.space import load_space


@pytest.fixture
def plan(tmp_path: Path) -> SearchPlan:
    output = tmp_path / "deep" / "output"
    return SearchPlan(make_space(tmp_path), output / "tiny", output / "references")


def test_new_folder_has_the_tables_and_the_space_as_used(plan: SearchPlan) -> None:
    store = create_folder(plan)
    assert {path.name for path in plan.folder.iterdir()} == {*TABLES, SPACE_FILE}
    assert load_space(plan.folder / SPACE_FILE) == plan.space
    assert all(store.read(table) == [] for table in TABLES)


def test_folder_that_exists_is_refused_and_left_alone(plan: SearchPlan) -> None:
    plan.folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"^{plan.folder} exists; choose another --name"):
        create_folder(plan)
    assert list(plan.folder.iterdir()) == []


def test_file_in_place_of_the_output_is_refused_by_what_is_wrong(plan: SearchPlan) -> None:
    output = plan.folder.parent
    output.parent.mkdir()
    output.touch()
    with pytest.raises(ConfigError, match=f"^{output}: cannot be written: File exists$"):
        create_folder(plan)
