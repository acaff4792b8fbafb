"""A short name of code: what results rest on, to be told with them."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path


@cache
def code_digest(*patterns: str) -> str:
    """Return a short name of the code in files of the package; of none, nothing.

    Comments, docstrings and empty lines do not count: they decide nothing.
    """
    package = Path(__file__).parents[1]
    paths = [path for pattern in patterns for path in sorted(package.glob(pattern))]
    digest = hashlib.sha256()
    for path in paths:
        left = without_texts(path.read_text(encoding="utf-8"))
        digest.update(f"{path.name}\0{left}\0".encode())
    return digest.hexdigest()[:12] if paths else ""


def without_texts(source: str) -> str:
    """Return Python source without comments, docstrings and empty lines.

    By places in the text, not by its tokens or its tree: those differ from one version
    of Python to the next.
    """
    lines = source.split("\n")
    gone: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column].rstrip()
        if token.type in {tokenize.COMMENT, tokenize.NL} and not lines[row - 1].strip():
            gone.add(row)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and _is_text(node.value):
            gone.update(_rows_of_its_own(node, lines))
    return "\n".join(line for row, line in enumerate(lines, 1) if row not in gone)


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _rows_of_its_own(node: ast.Expr, lines: Sequence[str]) -> Iterable[int]:
    """Return the rows of a statement; none if it shares one with another."""
    end = node.end_lineno or node.lineno
    before = lines[node.lineno - 1].encode()[: node.col_offset]
    after = lines[end - 1].encode()[node.end_col_offset :]
    is_alone = not before.strip() and not after.strip()
    return range(node.lineno, end + 1) if is_alone else ()
