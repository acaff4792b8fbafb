"""Cost models fitted to real engines: what makes a simulation tell of a machine.

An engine is driven through ``Engine``, as the runtime drives it, so that a step takes
what it takes in a run: the model's forward pass, but also deciding, booking, handing
tokens over and whatever else its loop does between two steps. Measuring forward passes
alone, as engines do at their start for their own decisions, leaves that out.
"""

from autellix.evaluation.calibration.fit import Calibrated, Point, fitted
from autellix.evaluation.calibration.grid import Kind, Shape, grid
from autellix.evaluation.calibration.measure import Clock, Progress, calibrated
from autellix.evaluation.calibration.probe import Features

__all__ = [
    "Calibrated",
    "Clock",
    "Features",
    "Kind",
    "Point",
    "Progress",
    "Shape",
    "calibrated",
    "fitted",
    "grid",
]
