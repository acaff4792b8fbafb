"""A replayed program does what its trace says, and shares what it says."""

from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings

from autellix import AutellixRuntime, CallRejected
from autellix.backends.simulated import SimulatedEngine
from autellix.core.process_table import ProgramView
from autellix.policies import FCFS, SRPT
from autellix.runtime.request import checked_text_or_ids
from autellix.testing import run_virtual
from autellix.workloads.arrivals import At
from autellix.workloads.prompts import Prompts, Words
from autellix.workloads.replay import Replay, ReplayedProgram, draw
from autellix.workloads.trace import TraceCall, TraceProgram
from tests.workloads.programs import programs


def _program(*calls: TraceCall) -> TraceProgram:
    return TraceProgram(
        program_id="p",
        program_class="chat",
        source="here",
        tokenizer="none",
        calls=calls,
    )


def _replay(
    *traced: TraceProgram,
    replay: Replay | None = None,
    engine: SimulatedEngine | None = None,
    apart_s: float = 0.0,
    limit: int | None = None,
) -> list[ReplayedProgram]:
    engine = engine or SimulatedEngine(
        block_tokens=1, kv_tokens=4_000, host_tokens=4_000
    )

    async def main() -> list[ReplayedProgram]:
        async with AutellixRuntime(engines=[engine]) as runtime:
            arrivals = At(given_s=[n * apart_s for n in range(len(traced))])
            return await (replay or Replay()).run_all(
                runtime, traced, arrivals, limit=limit
            )

    return run_virtual(main)


CHAIN = _program(
    TraceCall(parents=[], prompt_tokens=50, output_tokens=20),
    TraceCall(
        parents=[0],
        prompt_tokens=80,
        output_tokens=10,
        prefix_call=0,
        new_prompt_tokens=10,
        tool_seconds_before=3.0,
    ),
)


def test_lengths_are_those_of_the_trace() -> None:
    """Every call has its prompt and is made to go on to its output's end."""
    (replayed,) = _replay(CHAIN)
    assert replayed.calls == 2
    assert replayed.prompt_tokens == 130
    assert replayed.output_tokens == 30


def test_a_prompt_continues_what_the_engine_said() -> None:
    """The next turn finds the whole turn before in the cache, output included."""
    (replayed,) = _replay(CHAIN)
    # Of 50 + 20 tokens the last was never computed: it was the output's end.
    assert replayed.cached_tokens == 69


def test_tools_take_the_time_that_was_recorded() -> None:
    """The gap before a call is slept, and nothing else is."""
    (slow,) = _replay(CHAIN)
    quick_call = attrs.evolve(CHAIN.calls[1], tool_seconds_before=0.0)
    (quick,) = _replay(attrs.evolve(CHAIN, calls=[CHAIN.calls[0], quick_call]))
    assert slow.latency_s - quick.latency_s == pytest.approx(3.0)


def test_an_unrecorded_gap_takes_what_the_replay_says() -> None:
    """Null is not zero: the model for it is stated, and a first call has no gap."""
    call = attrs.evolve(CHAIN.calls[1], tool_seconds_before=None)
    program = attrs.evolve(CHAIN, calls=[CHAIN.calls[0], call])
    (none,) = _replay(program)
    (some,) = _replay(program, replay=Replay(unrecorded_tool_s=1.5))
    assert some.latency_s - none.latency_s == pytest.approx(1.5)


def test_branches_run_beside_each_other() -> None:
    """Calls that do not wait for each other overlap; a join waits for all of them."""
    call = TraceCall(parents=[0], prompt_tokens=10, output_tokens=1)
    wide = [attrs.evolve(call, tool_seconds_before=gap_s) for gap_s in (4.0, 6.0, 5.0)]
    first = TraceCall(parents=[], prompt_tokens=10, output_tokens=1)
    join = attrs.evolve(call, parents=[1, 2, 3], tool_seconds_before=1.0)
    (replayed,) = _replay(_program(first, *wide, join))
    assert 7.0 < replayed.latency_s < 8.0


@given(program=programs())
@settings(max_examples=20)
def test_every_call_of_every_program_is_made(program: TraceProgram) -> None:
    """Whatever the graph and the sharing, all calls run with their lengths."""
    (replayed,) = _replay(program)
    assert replayed.calls == len(program.calls)
    assert replayed.prompt_tokens == sum(call.prompt_tokens for call in program.calls)
    assert replayed.output_tokens == sum(call.output_tokens for call in program.calls)


@given(program=programs())
@settings(max_examples=50)
def test_prompts_begin_as_the_trace_says(program: TraceProgram) -> None:
    """What two prompts share by the trace they share in token ids."""
    prompts = Prompts(program, Words(vocabulary=range(5, 5_000)))
    whole: list[list[int]] = []
    for call_id, call in enumerate(program.calls):
        prompt = prompts.prompt(call_id)
        assert len(prompt) == call.prompt_tokens
        output = [1 + call_id % 3] * call.output_tokens
        prompts.learn(call_id, output)
        whole.append([*prompt, *output])
        group = program.group_of(call)
        if group and group[1] > call.shared_tokens:
            start = Words(0, range(5, 5_000)).of_group(*group)
            assert list(prompt[: group[1]]) == start
        elif call.prefix_call is not None:
            shared = call.shared_tokens
            assert list(prompt[:shared]) == whole[call.prefix_call][:shared]


def test_ids_are_checked_before_they_are_part_of_a_prompt() -> None:
    """A prompt is not checked again, so what it is made of is."""
    with pytest.raises(ValueError, match="got -1 at 0"):
        Words(vocabulary=range(-1, 5))
    prompts = Prompts(CHAIN, Words())
    with pytest.raises(TypeError, match="got True at 1"):
        prompts.learn(0, [7, True])
    assert checked_text_or_ids(prompt := prompts.prompt(0)) is prompt


def test_programs_of_a_group_begin_alike_and_no_further() -> None:
    """A second program of a group finds its first tokens, and nothing else."""
    call = TraceCall(parents=[], prompt_tokens=60, output_tokens=2)
    program = attrs.evolve(_program(call), prefix_group="tools", group_prefix_tokens=40)
    one, two = program, attrs.evolve(program, program_id="q")
    first, second = _replay(one, two, apart_s=60.0)
    assert first.cached_tokens == 0
    assert second.cached_tokens == 40


def test_programs_share_nothing_else() -> None:
    """Prompts of different programs differ from the first token on."""
    first, second = _replay(
        CHAIN, attrs.evolve(CHAIN, program_id="other"), apart_s=60.0
    )
    assert first.cached_tokens == second.cached_tokens == 69


def test_seeds_share_nothing() -> None:
    """Two seeds are two sets of prompts; the same seed is the same."""
    prompts = [Prompts(CHAIN, Words(seed)).prompt(0) for seed in (1, 1, 2)]
    assert prompts[0] == prompts[1]
    assert prompts[0] != prompts[2]


def test_a_group_is_the_same_whoever_asks_first() -> None:
    """A longer start of a group begins with the shorter one."""
    words, other = Words(), Words()
    short, long = words.of_group("g", 10), words.of_group("g", 30)
    assert long == other.of_group("g", 30)
    assert short == long[:10]


def test_policies_that_are_told_sizes_are_told() -> None:
    """A clairvoyant policy gets the size of each program at its opening."""
    sizes_s = {"p": 3.0, "q": 1.0}

    async def main() -> list[ReplayedProgram]:
        async with AutellixRuntime(
            engines=[SimulatedEngine(slots=1)], policy=SRPT()
        ) as runtime:
            replay = Replay(size_s=lambda program: sizes_s[program.program_id])
            both = [CHAIN, attrs.evolve(CHAIN, program_id="q")]
            return await replay.run_all(runtime, both, At(given_s=[0.0, 0.001]))

    longer, shorter = run_virtual(main)
    assert shorter.ended_s < longer.ended_s


@attrs.frozen(kw_only=True)
class Asked(FCFS):
    """Notes what calls say they follow."""

    after: list[int | None] = attrs.field(factory=list)

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        self.after.append(None if after is None else len(after))
        return 0


@pytest.mark.parametrize(("tells", "told"), [(False, []), (True, [0, 1])])
def test_a_call_says_what_it_follows_only_where_asked_to(
    tells: bool, told: list[int]
) -> None:
    """With ``tells_parents`` policies know the graph; the default is the paper's."""
    policy = Asked()

    async def main() -> None:
        engines = [SimulatedEngine(kv_tokens=4_000, host_tokens=0)]
        async with AutellixRuntime(engines=engines, policy=policy) as runtime:
            await Replay(tells_parents=tells).run(runtime, CHAIN)

    run_virtual(main)
    assert [parents for parents in policy.after if parents is not None] == told


def test_a_closed_loop_lets_the_next_program_in_when_one_has_ended() -> None:
    """Never more than the limit are open, never fewer while there are any left."""
    traced = [attrs.evolve(CHAIN, program_id=f"{n}") for n in range(5)]
    replayed = _replay(*traced, limit=2)
    starts_s = [program.started_s for program in replayed]
    ends_s = sorted(program.ended_s for program in replayed)
    assert starts_s[:2] == [0.0, 0.0]
    assert starts_s[2:] == ends_s[:3]


def test_a_closed_loop_of_nothing_is_refused() -> None:
    """With no program at a time none would ever run."""
    with pytest.raises(ValueError, match="at least 1"):
        _replay(CHAIN, limit=0)


def test_a_program_that_cannot_fit_says_so() -> None:
    """The engine's own refusal comes out, not a group of it."""
    with pytest.raises(CallRejected):
        _replay(CHAIN, engine=SimulatedEngine(max_context_tokens=60))


def test_drawing_uses_each_program_once_before_any_twice() -> None:
    """Ids stay different, so that copies of a program do not share their prompts."""
    traced = [attrs.evolve(CHAIN, program_id=name) for name in "abc"]
    drawn = draw(traced, 8, seed=1)
    ids = [program.program_id for program in drawn]
    assert sorted(ids[:3]) == ["a", "b", "c"]
    assert sorted(ids[3:6]) == ["a#2", "b#2", "c#2"]
    assert len(set(ids)) == 8
    assert draw(traced, 8, seed=1) == drawn
