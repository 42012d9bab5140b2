from __future__ import annotations

import pytest

import simreg_core


def test_public_names_can_be_imported_and_no_other() -> None:
    assert all(getattr(simreg_core, name) is not None for name in simreg_core.__all__)
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        _ = simreg_core.frobnicate
