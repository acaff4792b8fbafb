"""Programs of a plain vLLM server: whoever sends the same session id is one program.

With no runtime in front, the scheduler keeps the core's process table itself. Clients
name their program and nothing else: what it has had is what was measured here, unless
the operator lets clients bring more. Programs that send nothing for a while are closed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from autellix.backends.vllm.preemption import DEFAULT_COSTS
from autellix.core.facts import Ended
from autellix.core.process_table import ProcessTable
from autellix.errors import PolicyFault
from autellix.policies import PLAS
from autellix.policies.checked import CheckedPolicy
from autellix.policies.spec import from_spec

if TYPE_CHECKING:
    from autellix.backends.vllm.steering import Steering
    from autellix.core.cost_model import CostModel
    from autellix.core.ranking import Policy
    from autellix.core.records import CallReport, CallSpec

_log = logging.getLogger(__name__)

LONGEST_NAME_CHARS: Final = 256
"""Of a session id or a class of program: enough for any id, too few to fill memory."""
NAME_FIELDS: Final = ("program_id", "program_class")
CHARGE_FIELD: Final = "inherited_s"
MOST_CHARGE_S: Final = 1e9
"""Of a past that a client brings: thirty years, so that sums stay numbers."""
FIT_EVERY_CALLS: Final = 64
_NS_PER_S: Final = 1_000_000_000


def _policy_of(value: Any) -> Policy:
    """Return a policy given by its name, as a spec, or as it is.

    Raises:
        ValueError: No policy has that name.
    """
    if isinstance(value, Mapping):
        return from_spec(value)
    if not isinstance(value, str):
        return cast("Policy", value)
    found = entry_points(group="autellix.policies")
    if value not in found.names:
        known = ", ".join(sorted(found.names))
        raise ValueError(f"no policy is called {value!r}: there are {known}")
    policy: Policy = found[value].load()()
    return policy


@attrs.frozen(kw_only=True)
class ServerSettings:
    """What ``additional_config["autellix"]`` may say.

    Attributes:
        policy: Name of a policy, or its spec: ``{"path": …, "fields": …}``.
        idle_s: A program that has sent nothing for so long is closed.
        trusts_clients: Whether clients may say what a program has had elsewhere, in
            ``vllm_xargs["inherited_s"]``, and its class, in ``"program_class"``. By
            the first they can only lower their priority; by the second they choose
            whose sizes a policy that learns takes them to have.
        preempts: Whether calls are preempted for better ones.
        hysteresis_levels: How much worse a call must be to be preempted.
        costs: What steps cost; a ladder is fitted to what is seen after a while.
    """

    policy: Policy = attrs.field(factory=PLAS, converter=_policy_of)
    idle_s: float = attrs.field(default=600.0, validator=attrs.validators.gt(0.0))
    trusts_clients: bool = False
    preempts: bool = True
    hysteresis_levels: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    costs: CostModel = DEFAULT_COSTS

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> ServerSettings:
        """Return what the operator set; wrong is ``TypeError`` or ``ValueError``."""
        return cls(**(config or {}))


def fault_in(session_id: Any, xargs: Mapping[str, Any]) -> str | None:
    """Say what is wrong with what a client sent about its program; None: nothing."""
    names = {"session_id": session_id, **{n: xargs.get(n) for n in NAME_FIELDS}}
    for field, value in names.items():
        fault = None if value is None else _fault_in_name(field, value)
        if fault is not None:
            return fault
    charge = xargs.get(CHARGE_FIELD)
    if charge is None:
        return None
    if isinstance(charge, bool) or not isinstance(charge, int | float):
        return f"{CHARGE_FIELD} must be a number: got {charge!r}"
    if not 0 <= charge <= MOST_CHARGE_S:
        limits = f"not negative and at most {MOST_CHARGE_S:g}"
        return f"{CHARGE_FIELD} must be {limits}: got {charge!r:.32}"
    return None


def _fault_in_name(field: str, value: Any) -> str | None:
    if not isinstance(value, str):
        return f"{field} must be text: got {value!r}"
    if len(value) > LONGEST_NAME_CHARS:
        return (
            f"{field} has {len(value)} characters, at most {LONGEST_NAME_CHARS} "
            f"are taken: {value[:32]!r}…"
        )
    if any("\ud800" <= char <= "\udfff" for char in value):
        return f"{field} has half of a surrogate pair: got {value!r}"
    return None


@attrs.define(eq=False)
class _Session:
    name: str | None
    program_id: int
    used_ns: int
    live: int = 0


class Sessions:
    """The process table of a server, by session id.

    Args:
        settings: The operator's.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.table = ProcessTable(settings.policy)
        self._settings = settings
        self._idle_ns = round(settings.idle_s * _NS_PER_S)
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # by last use
        self._of_call: dict[int, _Session] = {}
        self._inherited: dict[int, int] = {}  # by the table, where a client said more
        self._ended = 0
        self._version = 0

    def spec(self, request: Any, prompt: Sequence[int], now_ns: int) -> CallSpec:
        """Register a request as a call of its session's program."""
        params = request.sampling_params
        xargs = (None if params is None else params.extra_args) or {}
        session_id = getattr(request, "session_id", None)
        fault = fault_in(session_id, xargs)
        if fault is not None:
            # A scheduler cannot refuse a request. Our server answers 400 before.
            _log.warning("a request is taken for a program of its own: %s", fault)
            session_id, xargs = None, {}
        # An empty id is no id: else all that leave the field empty were one program.
        name = session_id or xargs.get("program_id") or None
        trusts = self._settings.trusts_clients
        session = self._session(
            name, xargs.get("program_class") if trusts else None, now_ns
        )
        spec = self.table.submit(
            session.program_id,
            prompt=prompt,
            max_tokens=request.max_tokens,
            now_ns=now_ns,
        )
        session.live += 1
        self._of_call[spec.call_id] = session
        if name is None:
            self.table.close(session.program_id)
        said_ns = round(xargs.get(CHARGE_FIELD, 0) * _NS_PER_S)
        if trusts and said_ns:
            self._inherited[spec.call_id] = spec.inherited_ns
            inherited_ns = spec.inherited_ns + said_ns
            return attrs.evolve(spec, inherited_ns=inherited_ns)
        return spec

    def _session(
        self, name: str | None, program_class: str | None, now_ns: int
    ) -> _Session:
        self._expire(now_ns)
        session = None if name is None else self._sessions.get(name)
        if session is None:
            opened = self.table.open(program_class or "server", now_ns=now_ns)
            session = _Session(name, opened, now_ns)
            if name is not None:
                self._sessions[name] = session
        self._use(session, now_ns)
        return session

    def _use(self, session: _Session, now_ns: int) -> None:
        session.used_ns = now_ns
        if session.name is not None:
            self._sessions.move_to_end(session.name)

    def _expire(self, now_ns: int) -> None:
        """Close the programs that have been idle for long; the oldest come first."""
        while self._sessions:
            name, oldest = next(iter(self._sessions.items()))
            if oldest.used_ns + self._idle_ns > now_ns:
                return
            if oldest.live:  # it waits or runs: it is not idle
                self._use(oldest, now_ns)
                continue
            del self._sessions[name]
            self.table.close(oldest.program_id)

    def fold(self, steering: Steering) -> None:
        """Fold the reports of calls that ended; fit the ranking now and then."""
        ended = [f.report for f in steering.take_facts() if isinstance(f, Ended)]
        for report in ended:
            self._end(report)
        before, self._ended = self._ended, self._ended + len(ended)
        if before // FIT_EVERY_CALLS != self._ended // FIT_EVERY_CALLS:
            self._fit(steering)

    def _end(self, report: CallReport) -> None:
        inherited_ns = self._inherited.pop(report.call_id, report.inherited_ns)
        self.table.end(attrs.evolve(report, inherited_ns=inherited_ns))
        session = self._of_call.pop(report.call_id)
        session.live -= 1
        self._use(session, report.ended_ns)

    def _fit(self, steering: Steering) -> None:
        policy = self._settings.policy
        ranking = steering.follower.books.places.ranking
        sample = self.table.charge_sample()
        try:
            new = CheckedPolicy(policy).recalibrated(ranking, sample)
        except PolicyFault:  # a fit that fails must not cost the server
            _log.exception("%r could not be fitted; its ranking stays", policy)
            return
        if new is not None:
            self._version += 1
            steering.update_ranking(self._version, new.unchecked)
