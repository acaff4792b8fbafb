"""Which programs a point has, and when they arrive."""

from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from autellix.errors import ConfigError, TraceError
from autellix.evaluation import Arrival, Part, Point, Workload
from autellix.evaluation.programs import (
    arrivals_of,
    check_source,
    programs_of,
    saturation_of,
)
from autellix.evaluation.sweep import workload_from
from autellix.workloads.arrivals import Poisson
from autellix.workloads.generators import chat
from autellix.workloads.saturation import saturation_per_s
from autellix.workloads.trace import Trace, TraceProgram
from autellix.workloads.trace_file import write_trace
from tests.evaluation.builders import point, setup


@pytest.fixture
def recording(tmp_path: Path) -> Workload:
    """Return a trace of eight programs whose arrivals are not in the file's order."""
    programs = [
        attrs.evolve(program, arrival_s=float(number * 5 % 8))
        for number, program in enumerate(chat(8, seed=3).programs)
    ]
    path = tmp_path / "recording.jsonl.gz"
    write_trace(path, Trace(source="s", program_class="chat", programs=programs))
    return workload_from(str(path), "", Path())


def ids(programs: Sequence[TraceProgram]) -> list[str]:
    """Return who they are."""
    return [program.program_id for program in programs]


def test_policies_get_the_same_programs_and_seeds_get_others() -> None:
    """What is compared is policies, and what is repeated is everything else."""
    fcfs, plas = programs_of(point()), programs_of(point(policy="plas"))
    assert fcfs == plas
    assert programs_of(point(seed=1)) != fcfs
    assert len(fcfs) == 6


def test_programs_left_out_are_replaced() -> None:
    """A run has as many programs as were asked for, none of them too long."""
    workload = Workload(source="chat", longest_call_tokens=1_000)
    found = programs_of(point(workload=workload, programs=30))
    assert len(found) == 30
    assert max(program.longest_call_tokens for program in found) <= 1_000


def test_a_workload_of_which_hardly_any_program_fits_is_an_error() -> None:
    """Rather than a search without end."""
    workload = Workload(source="search", longest_call_tokens=30)
    with pytest.raises(ConfigError, match=r"do not fit: calls may have 30"):
        programs_of(point(workload=workload))


def test_a_recording_is_drawn_from_by_seed(recording: Workload) -> None:
    """Each program once before any comes again."""
    once = programs_of(point(workload=recording, programs=None))
    more = programs_of(point(workload=recording, programs=12))
    assert sorted(ids(once)) == sorted({name.split("#")[0] for name in ids(more)})
    other = programs_of(point(workload=recording, programs=None, seed=1))
    assert ids(other) != ids(once)


def test_recorded_arrivals_keep_their_order(recording: Workload) -> None:
    """Whatever the order in the file; counted from the first."""
    asked = point(workload=recording, programs=5, arrivals=Arrival.RECORDED, load=None)
    found = programs_of(asked)
    assert [program.arrival_s for program in found] == [0.0, 1.0, 2.0, 3.0, 4.0]
    arrivals = arrivals_of(asked, found, 1.0)
    assert arrivals.instants_s(5, seed=9) == (0.0, 1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("arrivals", [Arrival.RECORDED, Arrival.BURSTS])
def test_what_was_not_recorded_cannot_be_replayed(arrivals: Arrival) -> None:
    """A generator has no arrivals, and the error says what it is about."""
    load = 1.0 if arrivals.has_load else None
    asked = point(arrivals=arrivals, load=load)
    with pytest.raises(ConfigError, match=r"'chat'.*recorded arrival"):
        arrivals_of(asked, programs_of(asked), 1.0)


def test_bursts_come_at_the_rate_of_the_load(recording: Workload) -> None:
    """Their gaps are the recording's, scaled."""
    asked = point(workload=recording, arrivals=Arrival.BURSTS, load=0.5)
    instants_s = arrivals_of(asked, programs_of(asked), 4.0).instants_s(80, seed=0)
    assert instants_s[-1] == pytest.approx(80 / 2.0)


def test_a_load_is_a_multiple_of_saturation() -> None:
    """That of these very programs, times the engines."""
    asked = point(load=1.5, setup=setup(engines=3, slots=4, kv_tokens=8_000))
    programs = programs_of(asked)
    full = saturation_of(asked, programs)
    costs = asked.setup.cost_model
    assert full == 3 * saturation_per_s(programs, costs, slots=4, kv_tokens=8_000)
    assert arrivals_of(asked, programs, full) == Poisson(per_s=1.5 * full)


def test_gaps_are_drawn_for_all_policies_alike() -> None:
    """And for all calls that follow others."""
    workload = Workload(source="chat", gaps="shell")
    found = programs_of(point(workload=workload))
    gaps_s = [
        call.tool_seconds_before
        for program in found
        for call in program.calls
        if call.parents
    ]
    assert gaps_s
    assert None not in gaps_s
    assert programs_of(point(workload=workload, policy="plas")) == found


@pytest.fixture
def mix(recording: Workload) -> Workload:
    """Return a mix of the recording and of a generator, three of it for each."""
    part = {"source": recording.source, "share": 3.0}
    return workload_from({"mix": [part, "react"]}, "", Path())


def test_a_mix_draws_each_program_by_the_shares(mix: Workload) -> None:
    """From each source as if it were alone, with ids of its own."""
    asked = point(workload=mix, programs=400)
    found = programs_of(asked)
    assert len(found) == len(set(ids(found))) == 400
    chats = [each for each in found if each.program_class == "chat"]
    assert 270 < len(chats) < 330
    assert {name.split("/")[0] for name in ids(chats)} == {"0"}
    assert programs_of(point(workload=mix, programs=400, seed=1)) != found
    assert mix.name == "recording+react"


def test_sources_of_a_mix_share_no_prefix(recording: Workload) -> None:
    """Groups of the same name in two sources are two groups."""
    twice = workload_from({"mix": ["react", "react"]}, "", Path())
    groups: list[set[str | None]] = [set(), set()]
    for program in programs_of(point(workload=twice, programs=60)):
        groups[int(program.program_id[0])].add(program.prefix_group)
    assert groups[0]
    assert not groups[0] & groups[1]


def test_one_name_for_all_changes_nothing_else(mix: Workload) -> None:
    """What a policy is told is the only difference between labelled and unlabelled."""
    labelled = programs_of(point(workload=mix, programs=40))
    same = attrs.evolve(mix, program_class="any")
    unlabelled = programs_of(point(workload=same, programs=40))
    assert {program.program_class for program in unlabelled} == {"any"}
    assert [
        attrs.evolve(there, program_class=here.program_class)
        for here, there in zip(labelled, unlabelled, strict=True)
    ] == labelled


@pytest.mark.parametrize("arrivals", [Arrival.RECORDED, Arrival.BURSTS])
def test_a_mix_has_no_recorded_arrivals(mix: Workload, arrivals: Arrival) -> None:
    """Those of its sources do not belong together."""
    load = 1.0 if arrivals.has_load else None
    asked = point(workload=mix, arrivals=arrivals, load=load)
    with pytest.raises(ConfigError, match="is mixed: it has no recorded arrivals"):
        arrivals_of(asked, programs_of(asked), 1.0)


def test_a_mix_is_of_so_many_programs(mix: Workload) -> None:
    """There is no "each once" of a mix."""
    with pytest.raises(ConfigError, match=r"programs of 'recording\+react' are"):
        programs_of(point(workload=mix, programs=None))


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        (Workload(source="chatt"), "unknown workload 'chatt'; did you mean 'chat'?"),
        (Workload(source="no.jsonl.gz"), "no such file"),
        (Workload(source="m", mix=[Part(source="chatt")]), "did you mean 'chat'?"),
        (Workload(source="chat", gaps="shel"), "did you mean 'shell'?"),
    ],
)
def test_unknown_names_are_told_with_the_nearest_known(
    workload: Workload, said: str
) -> None:
    """Before anything runs."""
    with pytest.raises(ConfigError) as caught:
        check_source(workload)
    assert said in str(caught.value)


def test_a_damaged_recording_is_told_with_its_line(tmp_path: Path) -> None:
    """By the reader of traces."""
    path = tmp_path / "damaged.jsonl.gz"
    path.write_bytes(b"no gzip")
    asked: Point = point(workload=workload_from(str(path), "", Path()))
    with pytest.raises(TraceError, match=r"damaged.jsonl.gz"):
        programs_of(asked)
