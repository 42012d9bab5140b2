from __future__ import annotations

import pytest

import simreg_core


@pytest.mark.parametrize("name", simreg_core.__all__)
def test_public_name_can_be_imported(name: str) -> None:
    assert getattr(simreg_core, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        _ = simreg_core.frobnicate
