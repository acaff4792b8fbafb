"""An empty figure to draw on, and colours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from autellix.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axis import YAxis
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which can be told apart whatever one's eyes see of colour.
COLOURS: Final = (
    "#000000",
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#999999",
)


@contextmanager
def canvas(path: Path, *, size: tuple[float, float]) -> Iterator[Figure]:
    """Hand out an empty figure; it is written when the block ends.

    Yields:
        The figure.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra(
            "drawing pictures", module="matplotlib", extra="plot"
        ) from error
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    yield figure
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def set_log_scale(axis: YAxis) -> None:
    """Make an axis logarithmic, with 20, 50, 100 at its ticks instead of powers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.axes.set_yscale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
