"""What was measured of LATS on HotPotQA, for the generator of tree searches.

Of the trace ``lats_hotpot`` of 390 questions: 11,488 waves with 46,414 calls. Apart
from the search itself, so that its rules can be read without the numbers.
"""

from __future__ import annotations

from typing import Final

from autellix.workloads.generators.distributions import Quantiles

WAVES: Final = Quantiles(
    (
        (0.0, 2.6),
        (0.09, 3.4),
        (0.091, 4.6),
        (0.35, 5.4),
        (0.4, 7.0),
        (0.45, 10.0),
        (0.5, 13.0),
        (0.55, 16.0),
        (0.6, 23.0),
        (0.65, 41.0),
        (0.7, 49.0),
        (0.75, 57.0),
        (0.8, 65.0),
        (0.9, 76.0),
        (0.95, 81.0),
        (0.99, 94.0),
        (1.0, 101.0),
    )
)
SAMPLES: Final = 5
VALUES: Final = range(1, 6)
VALUES_WEIGHTS: Final = (758, 1048, 1261, 1103, 368)
AFTER_SAMPLES: Final = (
    (0.827, 0.128),
    (0.570, 0.033),
    (0.792, 0.013),
    (0.823, 0.0),
)
"""After so many reflections: chance that values follow samples, or a reflection."""
AFTER_VALUES: Final = (0.007, 0.032, 0.024, 0.0)
"""Chance that a reflection follows values; else samples do."""
FAILED: Final = (148, 58, 17)
"""How often the first reflection was on 1, 2 or 3 failed attempts."""
QUESTION: Final = Quantiles(((0.0, 24.0), (0.5, 33.0), (1.0, 58.0)))
STEP: Final = Quantiles(
    (
        (0.0, 24.0),
        (0.05, 62.0),
        (0.25, 108.0),
        (0.5, 137.0),
        (0.75, 240.0),
        (0.9, 470.0),
        (0.95, 680.0),
        (0.99, 1300.0),
        (1.0, 1991.0),
    )
)
FIRST_FEEDBACK: Final = Quantiles(
    (
        (0.0, 390.0),
        (0.05, 510.0),
        (0.25, 720.0),
        (0.5, 1010.0),
        (0.75, 1600.0),
        (0.95, 2380.0),
        (1.0, 3890.0),
    )
)
MORE_FEEDBACK: Final = Quantiles(
    ((0.0, 250.0), (0.25, 450.0), (0.5, 600.0), (0.75, 850.0), (1.0, 1900.0))
)
FAILURE: Final = Quantiles(
    (
        (0.0, 138.0),
        (0.05, 221.0),
        (0.25, 331.0),
        (0.5, 452.0),
        (0.75, 726.0),
        (0.95, 1256.0),
        (1.0, 1613.0),
    )
)
_SAMPLE_OUTPUT: Final = Quantiles(
    (
        (0.0, 17.0),
        (0.05, 23.0),
        (0.25, 31.0),
        (0.5, 39.0),
        (0.75, 50.0),
        (0.9, 75.0),
        (0.95, 89.0),
        (0.99, 100.0),
        (1.0, 100.0),
    )
)
_VALUE_OUTPUT: Final = Quantiles(
    (
        (0.0, 40.0),
        (0.05, 42.0),
        (0.25, 47.0),
        (0.5, 57.0),
        (0.75, 66.0),
        (0.9, 82.0),
        (0.97, 100.0),
        (1.0, 100.0),
    )
)
_REFLECT_OUTPUT: Final = Quantiles(
    ((0.0, 28.0), (0.05, 43.0), (0.25, 51.0), (0.5, 60.0), (0.75, 74.0), (1.0, 97.0))
)
WIKIPEDIA_S: Final = Quantiles(
    ((0.0, 0.27), (0.08, 0.38), (0.1, 0.75), (0.5, 0.89), (0.75, 1.04), (1.0, 1.26))
)
STEPS_ALIKE: Final = 0.15
OUTPUTS_ALIKE: Final = 0.3
OUTPUTS: Final = {
    "sample": _SAMPLE_OUTPUT,
    "value": _VALUE_OUTPUT,
    "reflect": _REFLECT_OUTPUT,
}
COT_TOKENS: Final = 1543
REFLECT_TOKENS: Final = 2767
PROMPTS: Final = {
    "sample": ("cot", COT_TOKENS),
    "feedback": ("feedback", 1628),
    "value": ("value", 203),
    "reflect": ("reflect", REFLECT_TOKENS),
}
"""What all prompts of a kind begin with; samples after a reflection: feedback."""
VALUE_PROMPT_TOKENS: Final = 1930
"""Of a first evaluation, without question and step: examples of its own."""
MOST_STEPS: Final = 7
GOES_DEEPER: Final = 0.25
SAMPLES_AGAIN: Final = 0.25
TURN_TOKENS: Final = 8
"""End of a prompt that asks for the next thought; the next prompt differs there."""
