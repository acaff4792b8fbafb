"""The scheduler that vLLM loads: its own class with our half mixed in.

``--scheduler-cls autellix.backends.vllm.scheduler.program_scheduler`` names a factory,
not a class, so that whatever class this vLLM would have chosen for its settings stays
in charge. Behind a plain server it tells programs apart by session id, with settings
from ``additional_config["autellix"]``; an engine of ours says there that it is one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from autellix.backends.vllm.remote import WHY_NOT, install
from autellix.backends.vllm.serving import ServerSettings, Sessions
from autellix.backends.vllm.steer import Steer
from autellix.backends.vllm.steering import Steering
from autellix.backends.vllm.surface import REQUIRED, REQUIRED_STATE, missing_in
from autellix.backends.vllm.wire import KEY, ticket_in

_log = logging.getLogger(__name__)

FROM_RUNTIME: Final = {KEY: {"is_runtime": True}}
"""``additional_config`` of an engine of ours: its calls come with tickets."""


class Unsteerable(Exception):
    """A scheduler of this vLLM lacks something the mixin needs."""


class ProgramScheduling:
    """Mixed into a scheduler class of vLLM's; overrides four methods, each with super.

    Attributes:
        steering: Our half.
    """

    # mypy cannot know the class this is mixed into, which is chosen at run time: so
    # what is asked of ``super()`` and of vLLM's own attributes is ignored where it is.

    steering: Steering

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Make vLLM's half, look at what it has, then make ours.

        Raises:
            Unsteerable: It lacks something.
        """
        super().__init__(*args, **settings)
        missing = missing_in(self, REQUIRED_STATE)
        if missing:
            raise Unsteerable(f"vLLM's scheduler has no {', '.join(missing)}")
        this: Any = self
        config = _own_part(this.vllm_config.additional_config)
        self._sessions: Sessions | None = None
        if config == FROM_RUNTIME[KEY]:
            self.steer(Steer.unmeasured())
            return
        server = ServerSettings.of(config)
        self._sessions = Sessions(server)
        step_ns = server.costs.single_step_ns()
        self.steer(
            Steer(
                policy=server.policy,
                ranking=server.policy.ranking(step_ns),
                costs=server.costs,
                preempts=server.preempts,
                hysteresis_levels=server.hysteresis_levels,
            )
        )

    def steer(self, steer: Steer) -> None:
        """Steer by this from now on; no live request may be in the scheduler.

        Raises:
            RuntimeError: One is.
        """
        this: Any = self
        live = [r for r in this.requests.values() if not r.is_finished()]
        if live:  # of others a KV connector may still be writing blocks out
            raise RuntimeError(f"{len(live)} requests are in the scheduler")
        self.steering = Steering(self, steer)
        # First come, first served is vLLM's own business, in its own kind of queue.
        by = "fcfs" if self.steering.keeps_order else "priority"
        if this.policy.value != by:
            this.policy = type(this.policy)(by)
            for name in ("waiting", "kv_holding_waiting", "skipped_waiting"):
                if hasattr(this, name):
                    setattr(this, name, _queue(this.policy))

    def add_request(self, request: Any) -> None:
        """Place a request in the order, then queue it."""
        known = self.requests  # type: ignore[attr-defined] # vLLM's
        if request.request_id not in known:
            self._place(request)
        super().add_request(request)  # type: ignore[misc] # vLLM's

    def _place(self, request: Any) -> None:
        prompt = request.all_token_ids[:]
        if self._sessions is not None:
            now_ns = self.steering.now_ns()
            spec = self._sessions.spec(request, prompt, now_ns)
            self.steering.add(request, spec, None)
            return
        params = request.sampling_params
        ticket = ticket_in(None if params is None else params.extra_args)
        if ticket is None:
            raise ValueError(f"request {request.request_id} came without a ticket")
        spec = ticket.spec(prompt, request.max_tokens)
        self.steering.add(request, spec, ticket.submitted_ns)

    def schedule(self, *args: Any, **settings: Any) -> Any:
        """Order and preempt, let vLLM decide, book what it decided."""
        self.steering.before_schedule()
        output = super().schedule(*args, **settings)  # type: ignore[misc] # vLLM's
        self.steering.after_schedule(output)
        return output

    def update_from_output(self, scheduler_output: Any, *args: Any) -> Any:
        """Let vLLM take what the model made, then book the step."""
        outputs = super().update_from_output(  # type: ignore[misc] # vLLM's
            scheduler_output, *args
        )
        self.steering.after_step(scheduler_output)
        self._fold()
        return outputs

    def finish_requests(
        self, request_ids: str | Iterable[str] | None, *args: Any
    ) -> Any:
        """Let vLLM end requests from outside, then book that."""
        if request_ids is not None and not isinstance(request_ids, str):
            request_ids = list(request_ids)
        ours = self.steering.ids(request_ids)
        ended = super().finish_requests(request_ids, *args)  # type: ignore[misc] # vLLM's
        self.steering.finished(ours)
        self._fold()
        return ended

    def _fold(self) -> None:
        """With no runtime in front, fold reports into our own process table."""
        if self._sessions is not None:
            self._sessions.fold(self.steering)


def _own_part(additional_config: Any) -> Mapping[str, Any] | None:
    if not isinstance(additional_config, Mapping):
        return None
    return additional_config.get(KEY)


def _queue(policy: Any) -> Any:
    from vllm.v1.core.sched.request_queue import create_request_queue

    return create_request_queue(policy)


def program_scheduler(vllm_config: Any, **settings: Any) -> Any:
    """Make the scheduler of a vLLM engine; what ``scheduler_cls`` names.

    Where this vLLM lacks something the mixin needs, its own scheduler is made, and the
    public ``priority`` of requests is all that is left to steer by; in front of a plain
    server nobody sets that but clients, so there it is first come, first served.
    """
    install()
    base = _own_class(vllm_config.scheduler_config)
    reason = unsteerable(base, vllm_config)
    if reason is None:
        steered = type(f"Program{base.__name__}", (ProgramScheduling, base), {})
        try:
            return steered(vllm_config=vllm_config, **settings)
        except Unsteerable as error:
            reason = str(error)
    _log.warning("priority at submission only, nobody is preempted: %s", reason)
    if _own_part(vllm_config.additional_config) != FROM_RUNTIME[KEY]:
        # A plain server's clients would set the public priority, each its own.
        vllm_config.scheduler_config.policy = "fcfs"
    scheduler = base(vllm_config=vllm_config, **settings)
    setattr(scheduler, WHY_NOT, reason)
    return scheduler


def _own_class(scheduler_config: Any) -> type:
    """Return the class that this vLLM would have chosen."""
    ours, scheduler_config.scheduler_cls = scheduler_config.scheduler_cls, None
    try:
        own: type = scheduler_config.get_scheduler_cls()
    finally:
        scheduler_config.scheduler_cls = ours
    return own


def unsteerable(base: Any, vllm_config: Any) -> str | None:
    """Say why a scheduler class cannot be steered, None if it can."""
    missing = missing_in(base, REQUIRED)
    if missing:
        return f"this vLLM's {base.__name__} has no {', '.join(missing)}"
    if vllm_config.speculative_config is not None:
        return "with speculative decoding a step makes several tokens of a call"
    return None
