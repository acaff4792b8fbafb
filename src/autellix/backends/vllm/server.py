"""A program-aware vLLM server: ``python -m autellix.backends.vllm.server --model …``.

This is vLLM's own OpenAI server, with all of its arguments. Our scheduler and
its kind of queue are defaults of two of them, and a check is added that answers 400
where a client says something about its program that cannot be. The scheduler by itself
(``--scheduler-cls``) works as well; it then ignores such fields, with a warning.
"""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, TypeAlias

from autellix.backends.vllm.engine_args import SCHEDULER
from autellix.backends.vllm.environment import prepare
from autellix.backends.vllm.serving import fault_in

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_DEFAULTS: Final = {
    "--scheduler-cls": SCHEDULER,
    "--scheduling-policy": "priority",
}
_CHECK: Final = ["--middleware", "autellix.backends.vllm.server.RequestCheck"]
_SESSION_HEADER: Final = b"x-session-id"
_VLLM_SERVER: Final = "vllm.entrypoints.openai.api_server"


class RequestCheck:
    """Answers 400 to requests that say something impossible about their program.

    Args:
        app: What answers the others.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Look at the body of a POST, then hand it on as it came."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        messages = await _whole(receive)
        body = b"".join(message.get("body", b"") for message in messages)
        fault = _fault_of(dict(scope["headers"]), body)
        if fault is not None:
            await _refuse(fault, send)
            return

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replay, send)


async def _whole(receive: Receive) -> list[Message]:
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _fault_of(headers: dict[bytes, bytes], body: bytes) -> str | None:
    """Say what is wrong; what is no JSON object is left to vLLM to refuse."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(asked, dict):
        return None
    xargs = asked.get("vllm_xargs")
    xargs = xargs if isinstance(xargs, dict) else {}
    in_header = headers.get(_SESSION_HEADER)
    sent = [
        asked.get("session_id"),
        None if in_header is None else in_header.decode("latin-1"),
        xargs.get("session_id"),
    ]
    faults = [fault_in(session_id, xargs) for session_id in sent]
    return next((fault for fault in faults if fault is not None), None)


async def _refuse(fault: str, send: Send) -> None:
    error = {"message": fault, "type": "BadRequestError", "param": None, "code": 400}
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def arguments(given: Sequence[str]) -> list[str]:
    """Return the arguments of vLLM's server: those given, and ours where missing."""
    named = {argument.split("=", 1)[0].replace("_", "-") for argument in given}
    ours = [[name, value] for name, value in _DEFAULTS.items() if name not in named]
    check = [] if any(_CHECK[1] in argument for argument in given) else _CHECK
    return [*given, *(word for pair in ours for word in pair), *check]


def main() -> None:
    """Serve until interrupted."""
    prepare()
    sys.argv[1:] = arguments(sys.argv[1:])
    runpy.run_module(_VLLM_SERVER, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
