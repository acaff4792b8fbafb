"""Code has another name where it decides otherwise, and only there."""

import ast
from pathlib import Path

import pytest

import autellix
from autellix.evaluation.code_digest import code_digest, without_texts

WITH_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
PLAIN = '''
"""A module."""

LIMIT = 3  # of them


def told(name: str) -> str:
    """Say it."""
    # not twice
    return f"{name} # {LIMIT}"


LONG = """of

many"""


def one() -> int:
    return 1; "told"
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
    ("was", "becomes"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("# {LIMIT}", "{LIMIT}"),  # no comment, it is inside a string
        ("of\n\nmany", "of\nmany"),
        ('return 1; "told"', 'return 2; "told"'),
    ],
)
def test_code_counts(was: str, becomes: str) -> None:
    """A number, and all that strings hold which are no docstrings."""
    assert was in PLAIN
    assert without_texts(PLAIN.replace(was, becomes)) != without_texts(PLAIN)


def test_nothing_is_taken_but_texts() -> None:
    """Of the package itself: what is left means the same, where it has a meaning."""
    compared = 0
    for path in Path(autellix.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        try:
            left = meant(without_texts(source))
        except IndentationError:
            continue  # something in it was a docstring and no more
        assert left == meant(source), path
        compared += 1
    assert compared > 150


def meant(source: str) -> str:
    """Return the tree of some source as text, docstrings left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, WITH_DOCSTRINGS):
            node.body = [each for each in node.body if not is_text(each)]
    return ast.dump(tree)


def is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def test_a_pattern_without_files_has_no_name() -> None:
    """A policy of the user's own is no code of the package."""
    assert code_digest("no such room/*.py") == ""
    assert len(code_digest("core/*.py")) == 12
