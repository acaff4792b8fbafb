"""The tools of the demo's ReAct agents: real, local, and safe to give to a model."""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

PRICES: Final[Mapping[str, float]] = {
    "apples": 2.4,
    "bread": 3.1,
    "candles": 1.2,
    "honey": 6.5,
    "lamps": 18.0,
    "paper": 0.8,
    "rice": 1.9,
    "soap": 2.2,
    "tea": 4.75,
    "wool": 7.3,
}
"""Price of a piece, in euros: the table that ``look_up`` reads."""

_MOST_CHARACTERS = 80
_ACTION = re.compile(r"(?P<tool>calculate|look_up)\s*\[(?P<input>[^\]\n]*)\]", re.I)
_OPERATORS: Final[Mapping[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class ToolError(Exception):
    """A tool cannot do what it was asked; the message goes back to the model."""


class Action(NamedTuple):
    """A tool and what to give it."""

    tool: str
    input: str


def parse_action(text: str) -> Action | None:
    """Return the first action in a model's text, None where there is none."""
    found = _ACTION.search(text)
    return Action(found["tool"].lower(), found["input"].strip()) if found else None


def use(action: Action) -> str:
    """Return what the tool says, an error of its own included."""
    tools = {"calculate": calculate, "look_up": look_up}
    try:
        return f"{tools[action.tool](action.input):g}"
    except ToolError as error:
        return f"error: {error}"


def calculate(expression: str) -> float:
    """Return the value of an arithmetic expression; nothing but numbers gets in.

    Raises:
        ToolError: It is too long, is not arithmetic, or has no value.
    """
    if len(expression) > _MOST_CHARACTERS:
        raise ToolError(f"longer than {_MOST_CHARACTERS} characters")
    try:
        return _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ArithmeticError, ValueError, MemoryError) as error:
        raise ToolError(f"cannot calculate {expression!r}") from error


def _value(node: ast.expr) -> float:
    """Return the value of a node.

    Raises:
        ValueError: It is something else than arithmetic on moderate numbers.
    """
    match node:
        case ast.Constant(value=int() | float() as number) if number is not True:
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_value(left), _value(right))
        case _:
            raise ValueError(f"not arithmetic: {ast.dump(node)}")


def look_up(name: str) -> float:
    """Return the price of the good whose name is nearest.

    Raises:
        ToolError: None is near.
    """
    near = difflib.get_close_matches(name.strip(" \"'.").lower(), PRICES, n=1)
    if not near:
        raise ToolError(f"no price for {name!r}")
    return PRICES[near[0]]
