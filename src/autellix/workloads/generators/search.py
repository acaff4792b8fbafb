"""Tree search like LATS on HotPotQA: waves of five samples and their evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import attrs

from autellix.workloads.generators import search_fit as fit
from autellix.workloads.generators.distributions import Draws, fields_of
from autellix.workloads.trace import Trace, TraceCall, TraceProgram

_GAPS: Final = {"sample": "join", "value": "tool", "reflect": "join"}


def search(programs: int, *, seed: int = 0) -> Trace:
    """Generate tree searches.

    =======================  =======  ============================  ==========
    figure                   paper    measured                      generated
    =======================  =======  ============================  ==========
    calls a program, mean    159.71   119 (p50 50, p99 393)         within 10%
    output tokens            72.64    48.6 (p50 45, p99 100)        within 4%
    prompt tokens, mean               2,928 (p50 2,740, p99 6,156)  within 10%
    new prompt tokens        467.24   157 (p50 0)                   within 15%
    depth, mean                       29.5 (p50 13, p99 94)         within 10%
    width                             5                             5
    =======================  =======  ============================  ==========

    A wave of five samples of one prompt, side by side; then values of up to five of
    their steps, after a Wikipedia look-up each (0.89 s on average, as LATS logged it);
    then samples from one of those steps or from one seen before. Failed attempts are
    reflected on up to three times, each making later prompts longer. Half of the
    programs end within 13 waves, a quarter go on for more than 57. The measured trace
    is itself a replay of the published search over recorded material, with outputs cut
    at 100 tokens; it is not tuned to the paper, and neither is this.

    Args:
        programs: How many.
        seed: Same seed, same programs, however many are asked for.
    """
    return Trace(
        source="generated: search",
        program_class="search",
        programs=[search_program(number, seed) for number in range(programs)],
    )


def search_program(number: int, seed: int) -> TraceProgram:
    """Generate one search."""
    tree = _Search(Draws(f"{seed}/search/{number}"))
    tree.run()
    about = fields_of("search", number, fitted_to="LATS on HotPotQA")
    about["synthetic"] += ("tool_seconds_before",)
    return TraceProgram(**about, calls=tree.calls)


class _Start(NamedTuple):
    """What later prompts begin with: so many tokens of the prompt of a call."""

    call: int
    tokens: int


@attrs.define(eq=False)
class _Step:
    """A node of the tree, reached by a thought, an action and what came of it.

    Attributes:
        tokens: From the question to here.
        depth: Steps from the question to here.
        parent: The step before; None of the question.
        sampled: Prompt of the first sample from here since the last reflection.
        valued: Prompt of the call that evaluated it.
    """

    tokens: int
    depth: int = 0
    parent: _Step | None = None
    sampled: _Start | None = None
    valued: _Start | None = None


@attrs.define(eq=False)
class _Search:
    """One search under way."""

    draws: Draws
    calls: list[TraceCall] = attrs.field(factory=list)
    _question: _Step = attrs.field(init=False)
    _steps: list[_Step] = attrs.field(init=False)
    """All that can be sampled from."""
    _before: int = attrs.field(default=fit.COT_TOKENS, init=False)
    """Tokens of a sample's prompt before the question; more after a reflection."""
    _any_sampled: _Start | None = attrs.field(default=None, init=False)
    """What samples begin with since the last reflection, wherever from."""
    _any_valued: _Start | None = attrs.field(default=None, init=False)
    """The same of values."""
    _failures: list[_Start] = attrs.field(factory=list, init=False)
    """The first reflection on each failed attempt."""
    _reflections: int = attrs.field(default=0, init=False)
    _wave: tuple[int, ...] = attrs.field(default=(), init=False)
    """The calls that the next ones wait for."""

    def __attrs_post_init__(self) -> None:
        self._question = _Step(self.draws.number(fit.QUESTION))
        self._steps = [self._question]

    def run(self) -> None:
        """Search until as many waves are made as were drawn."""
        at, kind = self._question, "sample"
        for _ in range(self.draws.number(fit.WAVES)):
            if kind == "sample":
                at = self._next(at)
                self._wave = tuple(self._sample(at))
                values, reflects = fit.AFTER_SAMPLES[self._reflections]
                weights = (values, reflects, 1.0 - values - reflects)
                kind = self.draws.one(("value", "reflect", "sample"), weights)
            elif kind == "value":
                self._wave = tuple(self._value(at))
                reflects = fit.AFTER_VALUES[self._reflections]
                kind = "reflect" if self.draws.is_so(reflects) else "sample"
            else:
                self._wave = tuple(self._reflect())
                kind = "sample"

    def _next(self, at: _Step) -> _Step:
        """Choose where to sample from after ``at``."""
        if self._any_sampled is None:
            return self._question
        if self.draws.is_so(fit.SAMPLES_AGAIN):
            return at
        children = [step for step in self._steps if step.parent is at]
        if children and self.draws.is_so(fit.GOES_DEEPER):
            return self.draws.one(children)
        return self.draws.one(self._steps)

    def _sample(self, at: _Step) -> Iterator[int]:
        tokens = self._before + at.tokens
        step: _Step | None = at
        while step is not None and step.sampled is None:
            step = step.parent
        start = self._any_sampled if step is None else step.sampled
        first = self._add("sample", tokens, start)
        if at.sampled is None:
            at.sampled = _Start(first, tokens - fit.TURN_TOKENS)
        if self._any_sampled is None:
            shared = self._before + self._question.tokens - fit.TURN_TOKENS
            self._any_sampled = _Start(first, shared)
        yield first
        for _ in range(fit.SAMPLES - 1):
            yield self._add("sample", tokens, _Start(first, tokens))

    def _value(self, at: _Step) -> Iterator[int]:
        for _ in range(self.draws.one(fit.VALUES, fit.VALUES_WEIGHTS)):
            own = self.draws.number(fit.STEP, alike=fit.STEPS_ALIKE)
            step = _Step(at.tokens + own, at.depth + 1, at)
            tokens = fit.VALUE_PROMPT_TOKENS + step.tokens
            call = self._add("value", tokens, at.valued or self._any_valued)
            step.valued = _Start(call, tokens - fit.TURN_TOKENS)
            if self._any_valued is None:
                shared = fit.VALUE_PROMPT_TOKENS + self._question.tokens
                self._any_valued = _Start(call, shared - fit.TURN_TOKENS)
            if step.depth < fit.MOST_STEPS:
                self._steps.append(step)
            yield call

    def _reflect(self) -> Iterator[int]:
        failed = min(3, len(self._failures) + 1)
        if not self._failures:
            failed = self.draws.one((1, 2, 3), fit.FAILED)
        for known in self._failures[:failed]:
            yield self._add("reflect", known.tokens + fit.TURN_TOKENS, known)
        while len(self._failures) < failed:
            tokens = fit.REFLECT_TOKENS + self.draws.number(fit.FAILURE)
            first = self._failures[0].call if self._failures else None
            start = None if first is None else _Start(first, fit.REFLECT_TOKENS)
            call = self._add("reflect", tokens, start)
            self._failures.append(_Start(call, tokens - fit.TURN_TOKENS))
            yield call
        feedback = fit.MORE_FEEDBACK if self._reflections else fit.FIRST_FEEDBACK
        self._before += self.draws.number(feedback)
        self._reflections += 1
        self._any_sampled = None
        for step in self._steps:
            step.sampled = None

    def _add(self, kind: str, tokens: int, start: _Start | None) -> int:
        """Make a call after the wave before; return its id."""
        group, outputs = fit.PROMPTS[kind], fit.OUTPUTS[kind]
        if kind == "sample" and self._reflections:
            group = fit.PROMPTS["feedback"]
        tool_s: float | None = 0.0 if self._wave else None
        if kind == "value":
            tool_s = self.draws.amount(fit.WIKIPEDIA_S)
        self.calls.append(
            TraceCall(
                parents=self._wave,
                thread=f"{kind}s",
                prompt_tokens=tokens,
                output_tokens=self.draws.number(outputs, alike=fit.OUTPUTS_ALIKE),
                prefix_call=None if start is None else start.call,
                new_prompt_tokens=tokens if start is None else tokens - start.tokens,
                tool_seconds_before=tool_s,
                gap=_GAPS[kind] if self._wave else None,
                kind=kind,
                prefix_group=f"lats:{group[0]}",
                group_prefix_tokens=group[1],
            )
        )
        return len(self.calls) - 1
