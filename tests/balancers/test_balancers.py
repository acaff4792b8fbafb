"""Which engine a call goes to (rules B1-B3)."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.balancers import (
    Balancer,
    Choice,
    EngineView,
    LeastLoaded,
    LocalityAware,
    Placing,
    RoundRobin,
)
from autellix.core.cost_model import CostModel

US = 1_000
COSTS = CostModel(step_ns=50_000 * US, prefill_ns=100 * US, decode_ns=0)
DEAR, CHEAP = 2000, 1600  # 0.2 s and 0.16 s of prefill; the step itself is not counted


def engine(name: str, calls: int = 0, costs: CostModel = COSTS) -> EngineView:
    """Return an engine with so many calls."""
    return EngineView(
        name=name, model="m", calls=calls, is_up=True, max_call_tokens=9999, costs=costs
    )


def placing(prompt_tokens: int, bound_engine: str | None = None) -> Placing:
    """Return a call of so many prompt tokens."""
    return Placing(prompt_tokens=prompt_tokens, max_tokens=8, bound_engine=bound_engine)


ENGINES = [engine("a", 5), engine("b", 2), engine("c", 2)]
every_balancer = st.sampled_from(
    [LocalityAware(), LocalityAware(threshold_tokens=9), LeastLoaded(), RoundRobin()]
)
engine_lists = st.lists(
    st.builds(engine, st.text(min_size=1, max_size=2), st.integers(0, 5)),
    min_size=1,
    max_size=5,
    unique_by=lambda engine: engine.name,
)


@given(every_balancer, engine_lists, st.integers(0, 5000), st.integers(0, 99))
def test_the_choice_is_one_of_the_engines_given(
    balancer: Balancer, engines: list[EngineView], prompt_tokens: int, turn: int
) -> None:
    """Also when the program is bound to one that is not among them (B3)."""
    choice = balancer.choose(placing(prompt_tokens, "gone"), engines, turn=turn)
    assert choice.engine in {engine.name for engine in engines}


@given(engine_lists, st.integers(0, 5000))
def test_a_call_that_goes_to_no_bound_engine_goes_to_the_least_loaded(
    engines: list[EngineView], prompt_tokens: int
) -> None:
    """The first of equals, in the order given."""
    least = min(engine.calls for engine in engines)
    first = next(engine.name for engine in engines if engine.calls == least)
    call = placing(prompt_tokens)
    assert LeastLoaded().choose(call, engines, turn=3).engine == first
    assert LocalityAware().choose(call, engines, turn=3).engine == first


@pytest.mark.parametrize(
    ("call", "choice"),
    [
        (placing(CHEAP), Choice(engine="b", binds=False)),
        (placing(CHEAP, "a"), Choice(engine="b", binds=False)),
        (placing(CHEAP + 1), Choice(engine="b", binds=True)),
        (placing(DEAR, "a"), Choice(engine="a", binds=False)),
        (placing(DEAR, "gone"), Choice(engine="b", binds=True)),
    ],
    ids=str,
)
def test_a_dear_call_goes_to_its_programs_engine(call: Placing, choice: Choice) -> None:
    """A cheap one goes by load and binds nothing; a dear one without engine binds."""
    assert LocalityAware().choose(call, ENGINES, turn=0) == choice


def test_a_threshold_in_tokens_replaces_the_recompute_time() -> None:
    """At most so many tokens are cheap, whatever they cost."""
    balancer = LocalityAware(recompute_s=0.0, threshold_tokens=2048)
    assert balancer.choose(placing(2048, "a"), ENGINES, turn=0).engine == "b"
    assert balancer.choose(placing(2049, "a"), ENGINES, turn=0).engine == "a"


def test_what_is_dear_is_said_by_the_engine_that_holds_the_prefix() -> None:
    """On a fast engine a long prompt is cheap to compute again."""
    fast = attrs.evolve(COSTS, prefill_ns=US)
    engines = [engine("fast", 3, fast), engine("slow", 0)]
    assert (
        LocalityAware().choose(placing(DEAR, "fast"), engines, turn=0).engine == "slow"
    )
    engines = [engine("fast", 0, fast), engine("slow", 3)]
    assert (
        LocalityAware().choose(placing(DEAR, "slow"), engines, turn=0).engine == "slow"
    )


def test_round_robin_takes_every_engine_in_turn_and_binds_none() -> None:
    """Whatever their loads."""
    choices = [RoundRobin().choose(placing(DEAR), ENGINES, turn=t) for t in range(4)]
    assert [choice.engine for choice in choices] == ["a", "b", "c", "a"]
    assert not any(choice.binds for choice in choices)


@pytest.mark.parametrize("field", ["recompute_s", "threshold_tokens"])
def test_a_negative_threshold_is_refused(field: str) -> None:
    """The message names the field and the value."""
    with pytest.raises(ValueError, match=f"'{field}' must be >= 0.*-1"):
        LocalityAware(**{field: -1})
