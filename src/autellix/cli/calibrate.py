"""``autellix calibrate``: costs of an engine, measured, for simulations of it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from autellix import config
from autellix.backends.simulated.preset_file import SUFFIX
from autellix.backends.vllm import DriverKind, VllmOptions
from autellix.backends.vllm.opening import driver_kind
from autellix.cli.exit_codes import ExitCode
from autellix.cli.progress import say
from autellix.cli.toml_text import plain_fields, toml_lines
from autellix.errors import ConfigError
from autellix.evaluation.calibration import Calibrated, Clock, calibrated
from autellix.evaluation.calibration.fit import fitted_ns
from autellix.testing import run_virtual

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine
    from autellix.evaluation.calibration import Point, Progress

_SAY_EVERY_S: Final = 5.0
_QUIET: Final = 0.1
"""Above this, repeats of a point differ too much for its median to say anything."""
_SIMULATED: Final = "simulated"
_OWN: Final = frozenset({"name", "seed"})
"""Options in which engines measured together may differ."""


@attrs.frozen(kw_only=True)
class CalibrateOptions:
    """What can be asked of a calibration.

    Attributes:
        config: File whose engines are measured, all at the same time.
        out: File that the costs go to.
        longest_tokens: Most tokens of a context or prompt to measure.
        rounds: How often everything is measured.
        clock: What time costs are in.
        command: What was typed.
    """

    config: Path
    out: Path
    longest_tokens: int
    rounds: int
    clock: Clock
    command: str


def calibrate(options: CalibrateOptions) -> ExitCode:
    """Measure the engines of a file, fit costs to them, write those to a file.

    Interrupted, or where an engine cannot be measured, it writes nothing. Whatever is
    wrong with files is a ``ConfigError``, and is told before anything is loaded.
    """
    _check_out(options.out)
    settings = config.load(options.config).engines
    _check_alike(settings, options)
    engines = [_engine(one) for one in settings]
    say(f"measuring {', '.join(repr(engine.name) for engine in engines)}")
    measure = partial(
        calibrated,
        engines,
        longest_tokens=options.longest_tokens,
        rounds=options.rounds,
        clock=options.clock,
        tell=_Teller(),
    )
    is_virtual = all(one.backend == _SIMULATED for one in settings)
    try:
        found = run_virtual(measure) if is_virtual else anyio.run(measure)
    except KeyboardInterrupt:
        say(f"interrupted: {options.out} was not written")
        return ExitCode.INTERRUPTED
    _write(options.out, "\n".join(_file(found, settings, options)) + "\n")
    print(*_table(found), sep="\n")
    if found.spread > _QUIET:
        say(
            f"repeats of the same step differ by {found.spread:.0%}: the machine was "
            "not quiet, and these costs tell of that moment; measure again"
        )
    say(f"costs are in {options.out}: use them as costs = {str(options.out)!r}")
    return ExitCode.OK


def _check_out(path: Path) -> None:
    """Refuse a file that could not be written, or not be used.

    Raises:
        ConfigError: It is one.
    """
    if path.suffix != SUFFIX:
        raise ConfigError(f"--out {path}: must end in {SUFFIX}, as costs are in TOML")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--out {path}: no file can be written there")


def _check_alike(
    settings: Sequence[config.EngineSettings], options: CalibrateOptions
) -> None:
    """Refuse engines of several kinds, and CPU time where it says nothing of steps.

    Raises:
        ConfigError: So they are.
    """
    first, *others = settings
    for index, other in enumerate(others, start=1):
        if (other.backend, _about(other)) != (first.backend, _about(first)):
            raise ConfigError(
                f"{options.config}: engines[{index}] is not like engines[0]: costs are "
                "of one kind of engine, so all must have the same options but names"
            )
    if others and options.clock is Clock.CPU:
        raise ConfigError(
            f"{options.config} has {len(settings)} engines: CPU time of a process "
            "cannot be told apart by engine; measure one, or by --clock wall"
        )
    if first.backend == _SIMULATED and options.clock is Clock.CPU:
        raise ConfigError(
            f"{options.config}: simulated steps take no CPU time, only deciding them "
            "does; measure by --clock wall"
        )
    if options.clock is Clock.CPU and _is_elsewhere(first):
        raise ConfigError(
            f"{options.config}: engines[0] takes its steps in another process than the "
            "one whose CPU time is measured; measure by --clock wall, or with "
            "driver = 'in-process'"
        )


def _is_elsewhere(one: config.EngineSettings) -> bool:
    """Say whether an engine has a process of its own; it may take importing vLLM."""
    if not isinstance(one.options, VllmOptions):
        return False
    return driver_kind(one.options) is DriverKind.ASYNC


def _about(one: config.EngineSettings) -> dict[str, Any]:
    """Return the options that engines measured together must share."""
    options = plain_fields(one.options)
    return {key: value for key, value in options.items() if key not in _OWN}


def _engine(one: config.EngineSettings) -> Engine:
    """Return an engine that measures itself, where it can."""
    if one.backend == _SIMULATED or not hasattr(one.options, "costs"):
        return one.make(one.options)
    return one.make(attrs.evolve(one.options, costs=None))


@attrs.define(eq=False)
class _Teller:
    """Says how far it is, a line now and then."""

    _said_s: float | None = attrs.field(default=None, init=False)

    def __call__(self, progress: Progress) -> None:
        now_s = time.perf_counter()
        is_due = self._said_s is None or now_s - self._said_s >= _SAY_EVERY_S
        if is_due or progress.share >= 1.0:
            self._said_s = now_s
            left = "" if progress.left_s is None else f", {progress.left_s:.0f} s left"
            say(f"  {progress.doing}: {progress.share:.0%}{left}")


def _file(
    found: Calibrated,
    settings: Sequence[config.EngineSettings],
    options: CalibrateOptions,
) -> Iterator[str]:
    """Yield the lines of a preset's file."""
    yield "# Costs of an engine, measured. What stands below [costs] tells how."
    yield f"#   {options.command}"
    yield from toml_lines(
        {
            "costs": attrs.asdict(found.costs),
            "measured": {
                "by": f"autellix {version('autellix')}",
                "machine": platform.machine(),
                "clock": options.clock.value,
                "rounds": options.rounds,
                "engines": len(settings),
                "spread_of_repeats": round(found.spread, 4),
                "engine": {
                    "backend": settings[0].backend,
                    **{k: v for k, v in _about(settings[0]).items() if k != "costs"},
                },
            },
            "errors": {
                name: {key: round(value, 4) for key, value in errors.items()}
                for name, errors in (
                    ("fitted", found.errors(held_out=False)),
                    ("held_out", found.errors(held_out=True)),
                )
            },
            "points": [_told(point, found) for point in found.points],
        }
    )


def _told(point: Point, found: Calibrated) -> dict[str, Any]:
    return {
        **attrs.asdict(point.shape),
        "kind": point.shape.kind.value,
        **{f"did_{key}": value for key, value in point.features._asdict().items()},
        "repeats": point.repeats,
        "measured_ms": round(point.measured_ns / 1e6, 3),
        "fitted_ms": round(fitted_ns(point.features, found.costs) / 1e6, 3),
        "spread": round(point.spread, 4),
    }


def _write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all.

    Raises:
        ConfigError: It cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _table(found: Calibrated) -> Iterator[str]:
    """Yield what a person reads: points, then how far off costs are."""
    yield (
        f"{'shape':44} {'steps':>5} {'measured, ms':>12} {'fitted, ms':>10} "
        f"{'off':>7} {'spread':>7}"
    )
    for point in found.points:
        fitted_ms = fitted_ns(point.features, found.costs) / 1e6
        yield (
            f"{_named(point):44} {point.features.steps:5} "
            f"{point.measured_ns / 1e6:12.2f} {fitted_ms:10.2f} "
            f"{point.error(found.costs):+7.1%} {point.spread:7.1%}"
        )
    yield ""
    for field in attrs.fields(type(found.costs)):
        yield f"{field.name} = {getattr(found.costs, field.name)}"
    yield ""
    for name, is_held_out in (("fitted to", False), ("held out", True)):
        errors = found.errors(held_out=is_held_out)
        told = ", ".join(f"{key} {value:.1%}" for key, value in errors.items())
        yield f"relative error of points {name}: {told or 'there are none'}"
    yield f"spread of repeats, half the distance of their quartiles: {found.spread:.1%}"


def _named(point: Point) -> str:
    shape = point.shape
    parts = []
    if shape.batch:
        parts.append(f"{shape.batch} decode after {shape.context_tokens}")
    if shape.prompt_tokens:
        parts.append(f"prompt of {shape.prompt_tokens}")
    held_out = " (held out)" if shape.is_held_out else ""
    return ", ".join(parts) + held_out
