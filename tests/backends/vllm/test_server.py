"""A plain vLLM server with our scheduler, spoken to by the real client."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from autellix.policies import PLAS, Ladder
from autellix.policies.spec import to_spec

pytestmark = pytest.mark.slow

MODEL = "tiny"


@pytest.fixture(scope="module")
def address(
    llama_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Start the server on loopback; give its address; end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ladder = Ladder(bounds_s=[0.05], quanta_s=[0.05, 60.0])
    settings = {"policy": to_spec(PLAS(ladder=ladder, beta=None))}
    command = [
        *(sys.executable, "-m", "autellix.backends.vllm.server"),
        *("--model", str(llama_folder), "--served-model-name", MODEL),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
        *("--max-num-seqs", "1", "--enforce-eager", "--block-size", "32"),
        *("--kv-cache-memory-bytes", str(8 << 20)),
        *("--additional-config", json.dumps({"autellix": settings})),
    ]
    log = tmp_path_factory.mktemp("server") / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        ) as server,
    ):
        try:
            wait_until_healthy(port, server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_until_healthy(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the server; show its log if it ended instead."""
    for _ in range(600):
        assert server.poll() is None, log.read_text()[-4000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)  # noqa: TID251 - another process
    pytest.fail(log.read_text()[-4000:])


def openai() -> Any:
    """Return the client's package, which comes with vLLM."""
    return importlib.import_module("openai")


def client_of(address: str) -> Any:
    """Return the real client."""
    return openai().AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


async def ask(address: str, tokens: int, **sent: Any) -> str:
    """Make a chat call; return its text."""
    async with client_of(address) as client:
        extra = {"ignore_eos": True, **sent.pop("body", {})}
        reply = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "the quick brown fox"}],
            max_tokens=tokens,
            temperature=0.0,
            extra_body=extra,
            **sent,
        )
        return cast("str", reply.choices[0].message.content)


async def test_ids_that_clients_send_already(address: str) -> None:
    """In the body, in a header, in ``vllm_xargs``, or none at all: all are served."""
    texts = [
        await ask(address, 8, body={"session_id": "a"}),
        await ask(address, 8, extra_headers={"X-Session-ID": "a"}),
        await ask(address, 8, body={"vllm_xargs": {"program_id": "a"}}),
        await ask(address, 8),
    ]
    assert len(set(texts)) == 1


@pytest.mark.parametrize(
    "sent",
    [
        {"body": {"session_id": ""}},
        {"extra_headers": {"X-Session-ID": ""}},
        {"body": {"vllm_xargs": {"program_id": ""}}},
    ],
    ids=["body", "header", "xargs"],
)
async def test_an_empty_id_is_no_id(address: str, sent: dict[str, Any]) -> None:
    """Who had much under one is as new as anybody with the next call."""
    await ask(address, 300, **sent)
    order: list[str] = []

    async def send(name: str, tokens: int, **more: Any) -> None:
        await ask(address, tokens, **more)
        order.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, "first", 400)
        await anyio.sleep(0.3)  # it runs, on the only slot
        tasks.start_soon(partial(send, "empty", 4, **sent))
        await anyio.sleep(0.1)
        tasks.start_soon(send, "fresh", 100)
    assert order.index("empty") < order.index("fresh")


async def test_a_new_program_goes_before_one_that_has_had_much(address: str) -> None:
    """Of two waiting calls that of the program with less service comes first.

    What a client says about priority or about its past does not help.
    """
    await ask(address, 300, body={"session_id": "greedy"})
    order: list[str] = []

    async def send(name: str, tokens: int, **body: Any) -> None:
        await ask(address, tokens, body={"session_id": name, **body})
        order.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, "first", 400)
        await anyio.sleep(0.3)  # it runs, on the only slot
        cheat = {"priority": -5, "vllm_xargs": {"inherited_s": 0.0}}
        tasks.start_soon(partial(send, "greedy", 100, **cheat))
        await anyio.sleep(0.1)
        tasks.start_soon(send, "fresh", 4)
    assert order.index("fresh") < order.index("greedy")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"session_id": "x" * 1_000_000}, "1000000 characters"),
        ({"vllm_xargs": {"inherited_s": -1}}, "not negative"),
        ({"vllm_xargs": {"inherited_s": "much"}}, "must be a number"),
        ({"vllm_xargs": {"program_id": 7}}, "must be text"),
    ],
)
async def test_impossible_fields_are_refused_and_the_server_stays_up(
    address: str, body: dict[str, Any], said: str
) -> None:
    """A clear 400 for the one request, and the next one is answered."""
    with pytest.raises(openai().BadRequestError, match=said):
        await ask(address, 2, body=body)
    assert await ask(address, 2)


async def test_a_long_header_is_refused_and_the_server_stays_up(address: str) -> None:
    """Whoever sends a megabyte as a header gets an error of some kind."""
    with pytest.raises(openai().APIError):
        await ask(address, 2, extra_headers={"X-Session-ID": "x" * 1_000_000})
    with pytest.raises(openai().BadRequestError, match="300 characters"):
        await ask(address, 2, extra_headers={"X-Session-ID": "x" * 300})
    assert await ask(address, 2)
