"""From settings to a driver with its model folder and tokenizer."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread

from autellix.backends.vllm.engine_args import ArgumentsRefused, check_arguments
from autellix.backends.vllm.environment import prepare
from autellix.backends.vllm.options import DriverKind
from autellix.backends.vllm.tokens import load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from autellix.backends.protocol import Tokenizer
    from autellix.backends.vllm.driver import Driver
    from autellix.backends.vllm.options import VllmOptions

_log = logging.getLogger(__name__)


async def make_driver(options: VllmOptions) -> tuple[Driver, Tokenizer]:
    """Return a driver that is not open yet, and the tokenizer of its model."""
    folder, tokenizer, kind = await anyio.to_thread.run_sync(
        partial(_look, options), abandon_on_cancel=True
    )
    # Both need extras, and whoever only reads a configuration may have none of them.
    from autellix.backends.vllm.in_process import InProcessDriver
    from autellix.backends.vllm.own_process import OwnProcessDriver

    makes = OwnProcessDriver if kind is DriverKind.ASYNC else InProcessDriver
    driver: Driver = makes(
        name=options.engine_name, options=options, folder=folder, tokenizer=tokenizer
    )
    return driver, tokenizer


def driver_kind(options: VllmOptions) -> DriverKind:
    """Return how vLLM will be run; where no setting says, that takes importing it."""
    if options.driver is not None:
        return options.driver
    return DriverKind.IN_PROCESS if prepare().is_cpu else DriverKind.ASYNC


def _look(options: VllmOptions) -> tuple[Path, Tokenizer, DriverKind]:
    prepare()  # before transformers is imported
    try:
        check_arguments(options.engine_args)
    except ArgumentsRefused as error:
        error.add_note(f"of engine {options.engine_name!r}")
        raise
    from autellix.backends.torch.weights import resolve

    def log(doing: str, share: float | None) -> None:
        _log.info("%s%s", doing, "" if share is None else f" ({share:.0%})")

    folder = resolve(options.model, cache_dir=options.cache_dir, progress=log)
    return folder, load_tokenizer(folder), driver_kind(options)
