"""The tools of the demo's agents do real work and let nothing else in."""

import pytest

from autellix.cli.demo.tools import (
    Action,
    ToolError,
    calculate,
    look_up,
    parse_action,
    use,
)


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2 + 3 * 4", 14), ("-(1.5 - 2)", 0.5), ("7 / 2", 3.5)],
)
def test_arithmetic_is_calculated(expression: str, value: float) -> None:
    """Numbers, signs and brackets are all there is."""
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').getcwd()",
        "[1][0]",
        "a",
        "True + 1",
        "9 ** 99",
        "1 / 0",
        "1 +",
        "'a' * 3",
        "1" * 81,
        "1e400 - 1e400 + (",
        "\0",
    ],
)
def test_anything_else_is_a_tool_error(expression: str) -> None:
    """No names, calls, containers or endless expressions are evaluated."""
    with pytest.raises(ToolError):
        calculate(expression)


def test_goods_are_found_by_nearly_their_name() -> None:
    """A model's spelling is forgiven, a good that does not exist is not."""
    assert look_up(' "Apple".') == look_up("apples") == 2.4
    with pytest.raises(ToolError, match="no price for 'rockets'"):
        look_up("rockets")


def test_the_first_action_of_a_text_is_taken() -> None:
    """Words around it do not matter; without one there is none."""
    text = "I think\nAction: Look_Up [ tea ] and calculate[1]"
    assert parse_action(text) == Action("look_up", "tea")
    assert parse_action("I would look it up") is None


def test_errors_go_back_to_the_model() -> None:
    """A tool that fails says so as its result."""
    assert use(Action("calculate", "3 * 2.5")) == "7.5"
    assert use(Action("calculate", "x")).startswith("error: cannot calculate")
