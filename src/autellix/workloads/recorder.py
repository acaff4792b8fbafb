"""Recording of a live run, to be run again: a trace from a runtime's events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.core.records import Outcome
from autellix.runtime.events import EventKind
from autellix.workloads.prefix_sharing import alike
from autellix.workloads.tape import GROUP_TOKENS, Tape, trace_calls
from autellix.workloads.trace import Trace, TraceProgram

if TYPE_CHECKING:
    from autellix.runtime.events import Event


@attrs.define(eq=False)
class Recorder:
    """Listens to a runtime: ``with runtime.listen(recorder): …``, then ``trace()``.

    What is recorded: programs that opened while it listened and are over, with the
    calls that ended well. Arrivals count from the first program. The time before a
    call is that between the end of its last parent, or the opening of its program, and
    its submission. What prompts share is found in their token ids. No token ids are
    kept of a program that is over, and none are in the trace.

    A call's parents are the results it was made with ``after``; else they are read off
    the tasks of the program: a task's calls follow each other, the first call of a
    task follows those of the task that started it, and a task that goes on after
    others it started follows those that have ended by then. So a limit on how many
    tasks run at once is recorded as if one waited for the other.

    Attributes:
        source: What the trace says of where it is from.
        tokenizer: What counted the tokens.
    """

    source: str = "recorded"
    tokenizer: str = "the model's"
    _tapes: dict[int, Tape] = attrs.field(factory=dict, init=False)
    _groups: dict[tuple[int, ...], _Group] = attrs.field(factory=dict, init=False)

    def __call__(self, event: Event) -> None:
        """Take an event in."""
        if event.program is None:
            return
        if event.kind is EventKind.PROGRAM_OPENED:
            name = event.program_class or ""
            self._tapes[event.program] = Tape(name, event.at_s)
        tape = self._tapes.get(event.program)
        if tape is None:
            return  # opened before this listened
        if event.kind is EventKind.PROGRAM_CLOSED:
            tape.close()
        elif event.call is not None:
            self._take_call(event, tape, event.program, event.call)

    def _take_call(self, event: Event, tape: Tape, program: int, call_id: int) -> None:
        if event.kind is EventKind.SUBMITTED:
            call = tape.submit(event, call_id)
            prompt = tuple(event.tokens)
            group = self._groups.setdefault(call.group, _Group(prompt))
            group.add(program, prompt)
        elif event.kind is EventKind.RETRIED:
            tape.retry(int(event.details["was"]), call_id)
        elif event.kind is EventKind.ENDED:
            is_well = event.details["outcome"] == Outcome.FINISHED.value
            tape.end(event, call_id, is_well=is_well)

    def trace(self) -> Trace:
        """Return what has been recorded so far."""
        over = {n: tape for n, tape in self._tapes.items() if tape.is_over}
        first_s = min((tape.opened_s for tape in over.values()), default=0.0)
        groups = {
            start: (f"start-{number}", len(group.common))
            for number, (start, group) in enumerate(self._groups.items())
            if group.is_shared and len(start) == GROUP_TOKENS
        }
        programs = []
        for number, tape in over.items():
            calls = trace_calls(tape, groups)
            if not calls:
                continue
            programs.append(
                TraceProgram(
                    program_id=f"{tape.name}-{number}",
                    arrival_s=tape.opened_s - first_s,
                    program_class=tape.name,
                    source=self.source,
                    tokenizer=self.tokenizer,
                    meta={"calls_left_out": len(tape.calls) - len(calls)},
                    calls=calls,
                )
            )
        classes = sorted({program.program_class for program in programs})
        return Trace(
            source=self.source,
            program_class="+".join(classes) or "none",
            programs=programs,
        )


@attrs.define(eq=False)
class _Group:
    """Prompts that begin alike.

    Attributes:
        common: What all of them begin with.
        is_shared: Whether they are of different programs.
    """

    common: tuple[int, ...]
    is_shared: bool = False
    _program: int | None = None

    def add(self, program: int, prompt: tuple[int, ...]) -> None:
        """Take a prompt in."""
        if self._program is None:
            self._program = program
        self.is_shared = self.is_shared or program != self._program
        shared = alike(self.common, prompt)
        if shared < len(self.common):
            self.common = self.common[:shared]
