"""Lines of JSON from a file, with every way of being damaged an error of ours."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from autellix.errors import TraceError

_GZIP: Final = b"\x1f\x8b"


def json_lines(path: Path, *, may_be_plain: bool = False) -> Iterator[tuple[int, Any]]:
    """Read the lines of a file.

    Args:
        path: Of a gzip file.
        may_be_plain: Whether it may also be an uncompressed one; blank lines are then
            passed over.

    Yields:
        Number and value of each.

    Raises:
        TraceError: The file is damaged, or a line is no JSON.
    """
    is_plain = may_be_plain and _start(path) != _GZIP
    number = 0
    try:
        with path.open("rb") if is_plain else gzip.open(path) as file:
            for number, line in enumerate(file, start=1):
                if may_be_plain and not line.strip():
                    continue
                yield number, _json(line)
    except EOFError:
        problem = f"the file ends in the middle, after line {number}: truncated gzip"
    except gzip.BadGzipFile:
        problem = "not a gzip file, or a damaged one"
    except zlib.error as error:
        problem = f"damaged gzip after line {number}: {error}"
    except ValueError as error:
        raise TraceError(f"no JSON: {error}", file=str(path), line=number) from None
    else:
        return
    raise TraceError(problem, file=str(path), line=number + 1)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_GZIP))


def _json(line: bytes) -> Any:
    return json.loads(line, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
