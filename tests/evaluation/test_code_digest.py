"""Code has another name where it decides otherwise, and only there."""

from pathlib import Path

import pytest

import autellix
from autellix.evaluation.code_digest import code_digest, without_texts

PLAIN = '''
"""A module."""

LIMIT = 3  # of them


def told(name: str) -> str:
    """Say it."""
    # not twice
    return f"{name} # {LIMIT}"
'''


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("A module.", "A module\nof many lines."),
        ("# of them", "# of those"),
        ("    # not twice\n", ""),
        ('    """Say it."""\n', ""),
        ("LIMIT = 3", "LIMIT = 3\n\n"),
    ],
)
def test_texts_do_not_count(was: str, becomes: str) -> None:
    """What is only read may be put better, and results keep their code."""
    changed = PLAIN.replace(was, becomes)
    assert changed != PLAIN
    assert without_texts(changed) == without_texts(PLAIN)


@pytest.mark.parametrize(
    ("was", "becomes"), [("LIMIT = 3", "LIMIT = 4"), ("# {LIMIT}", "{LIMIT}")]
)
def test_code_counts(was: str, becomes: str) -> None:
    """A number, and what looks like a comment inside a string."""
    changed = PLAIN.replace(was, becomes)
    assert without_texts(changed) != without_texts(PLAIN)


def test_nothing_is_taken_but_texts() -> None:
    """Of the package itself: each line that is left was there, or its beginning."""
    for path in Path(autellix.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        lines = iter(source.splitlines())
        for left in without_texts(source).splitlines():
            assert any(line.startswith(left) for line in lines), left


def test_a_pattern_without_files_has_no_name() -> None:
    """A policy of the user's own is no code of the package."""
    assert code_digest("no such room/*.py") == ""
    assert len(code_digest("core/*.py")) == 12
