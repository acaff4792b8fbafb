"""A short name of code: what results rest on, to be told with them."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
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
        digest.update(without_texts(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:12] if paths else ""


def without_texts(source: str) -> str:
    """Return Python source without comments, docstrings and empty lines.

    By places in the text, not by its tokens or its tree: those differ from one version
    of Python to the next.
    """
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and _is_text(node.value):
            for row in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[row - 1] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
