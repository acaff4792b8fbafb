"""Numbers of the command line, checked as they are typed."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Return a positive integer.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer: {text!r}")
    return int(text)


def whole(text: str) -> int:
    """Return an integer from 0 on.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be an integer from 0 on: {text!r}")
    return int(text)
