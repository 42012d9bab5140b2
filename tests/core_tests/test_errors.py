from __future__ import annotations

import pytest

from simreg_core.errors import counted, one_line


@pytest.mark.parametrize(
    ("err", "text"),
    [
        (ValueError("a first line\n  and   a second"), "a first line and a second"),
        (KeyError("alpha"), "key error 'alpha'"),
        (SystemExit(3), "system exit 3"),
        (NotImplementedError(), "not implemented error"),
    ],
)
def test_exception_in_words_without_the_name_of_its_class(err: BaseException, text: str) -> None:
    assert one_line(err) == text


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "image", "1 image"), (0, "class", "0 classes"), (1797, "image", "1,797 images")],
)
def test_counted(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
