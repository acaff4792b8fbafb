"""Tiny models, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.backends.torch.tiny import load_tiny, make_folder

if TYPE_CHECKING:
    from autellix.backends.torch.model import LoadedModel


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep torch from spinning beside other tests."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny model of an architecture."""
    made: dict[str, Path] = {}

    def folder_of(architecture: str) -> Path:
        if architecture not in made:
            place = tmp_path_factory.mktemp(architecture)
            made[architecture] = make_folder(place, architecture)
        return made[architecture]

    return folder_of


@pytest.fixture(scope="session")
def llama_folder(folder_of: Callable[[str], Path]) -> Path:
    """Return the folder of a tiny Llama."""
    return folder_of("llama")


@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> LoadedModel:
    """Return a tiny Llama."""
    return load_tiny(llama_folder)
