"""What a configuration file may say, and what is said when it says something else."""

import re
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import autellix.config.plugins
from autellix.balancers import LocalityAware, RoundRobin
from autellix.config import Config, load, load_runtime
from autellix.core.records import Charge
from autellix.errors import ConfigError, MissingExtra
from autellix.policies import ATLAS, PLAS, Gittins, Ladder
from autellix.policies.gittins import ClassSizes, SizeModel, Sizes
from autellix.runtime import save_sizes
from autellix.runtime.autellix_runtime import AutellixRuntime

DOCS = Path(__file__).parents[1] / "docs" / "command-line.md"
EXAMPLE = Path(__file__).parents[1] / "examples" / "autellix.toml"
ENGINE = '[[engines]]\nbackend = "simulated"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "autellix.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text))
    return caught.value


def test_a_file_of_engines_alone_gets_the_defaults(tmp_path: Path) -> None:
    """Policy and balancer are ATLAS and locality where the file names none."""
    config = load(written(tmp_path, ENGINE))
    assert config.policy == ATLAS()
    assert config.balancer == LocalityAware()
    assert [engine.options.name for engine in config.engines] == ["simulated"]


def test_a_full_file_says_everything(tmp_path: Path) -> None:
    """Names, tables, integers for floats, presets and enums are understood."""
    config = load(
        written(
            tmp_path,
            """
            [runtime]
            balancer = "round-robin"
            shutdown_s = 2
            [runtime.policy]
            kind = "plas"
            beta = 8
            charge = "work"
            ladder = { first_s = 0.5, ratio = 4, levels = 3 }
            [[engines]]
            backend = "simulated"
            name = "a"
            slots = 4
            costs = "smollm2-135m-cpu"
            [[engines]]
            backend = "simulated"
            name = "b"
            costs = { step_ns = 5, prefill_ns = 1, decode_ns = 2 }
            """,
        )
    )
    assert config.policy == PLAS(
        beta=8.0, charge=Charge.WORK, ladder=Ladder.geometric(0.5, 4.0, 3)
    )
    assert config.balancer == RoundRobin()
    assert config.shutdown_s == 2.0
    first, second = (engine.options for engine in config.engines)
    assert (first.name, first.slots, first.costs.step_ns) == ("a", 4, 51_200_000)
    assert (second.name, second.costs.step_ns) == ("b", 5)


def test_a_ladder_can_be_written_in_full(tmp_path: Path) -> None:
    """Bounds and quanta are taken as they stand."""
    policy = (
        '{ kind = "mlfq", ladder = { bounds_s = [1, 2.5], quanta_s = [1, 2, inf] } }'
    )
    config = load(written(tmp_path, f"[runtime]\npolicy = {policy}\n{ENGINE}"))
    assert getattr(config.policy, "ladder", None) == Ladder(
        bounds_s=(1.0, 2.5), quanta_s=(1.0, 2.0, float("inf"))
    )


MODEL = SizeModel(classes={"chat": ClassSizes(ended=[Sizes(0.5, 9.0)])})


def test_a_policy_that_learns_starts_from_a_saved_model(tmp_path: Path) -> None:
    """The file is the one that save_sizes wrote."""
    save_sizes(tmp_path / "sizes.json", MODEL)
    policy = f'{{ kind = "gittins", model = "{tmp_path}/sizes.json" }}'
    config = load(written(tmp_path, f"{ENGINE}[runtime]\npolicy = {policy}\n"))
    assert config.policy == Gittins(model=MODEL)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "sizes.json' cannot be read: No such file or directory"),
        ("{", "sizes.json: no JSON"),
        ('{"schema": "x"}', "sizes.json: schema 'x' is unknown"),
    ],
)
def test_a_broken_model_is_no_cold_start(
    tmp_path: Path, content: str | None, said: str
) -> None:
    """The error names the key and the file, and says what is wrong."""
    if content is not None:
        (tmp_path / "sizes.json").write_text(content)
    policy = f'{{ kind = "gittins", model = "{tmp_path}/sizes.json" }}'
    error = refused(tmp_path, f"{ENGINE}[runtime]\npolicy = {policy}\n")
    assert error.path == "runtime.policy.model"
    assert said in str(error)


def test_a_model_is_a_path(tmp_path: Path) -> None:
    """Nothing else that TOML knows is one."""
    text = f'{ENGINE}[runtime]\npolicy = {{ kind = "gittins", model = 3 }}\n'
    error = refused(tmp_path, text)
    assert str(error) == "runtime.policy.model: must be a string: 3"


def test_a_file_becomes_a_runtime(tmp_path: Path) -> None:
    """Engines are made from their options, each time anew, and nothing is loaded."""
    path = written(tmp_path, f'{ENGINE}name = "only"\n')
    assert isinstance(load_runtime(path), AutellixRuntime)
    assert isinstance(AutellixRuntime.from_config(path), AutellixRuntime)
    (settings,) = load(path).engines
    assert settings.make(settings.options).name == "only"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"[runtine]\n{ENGINE}",
            "runtine: unknown key, with value {}; did you mean 'runtime'?",
        ),
        (
            f'[runtime]\npolcy = "plas"\n{ENGINE}',
            "runtime.polcy: unknown key, with value 'plas'; did you mean 'policy'?",
        ),
        (
            f"{ENGINE}slost = 8\n",
            "engines[0].slost: unknown key, with value 8; did you mean 'slots'?",
        ),
        (
            f'{ENGINE}[runtime.policy]\nkind = "plas"\nladder = {{ fisrt_s = 1 }}\n',
            (
                "runtime.policy.ladder.fisrt_s: unknown key, with value 1; "
                "did you mean 'first_s'?"
            ),
        ),
        (
            f'{ENGINE}[runtime.policy]\nkind = "fcfs"\nbeta = 8.0\n',
            "runtime.policy.beta: unknown key, with value 8.0; there are: ",
        ),
        (
            f'{ENGINE}name = "a"\n{ENGINE}name = "b"\ncosts = {{ stpe_ns = 1 }}\n',
            (
                "engines[1].costs.stpe_ns: unknown key, with value 1; "
                "did you mean 'step_ns'?"
            ),
        ),
    ],
    ids=["file", "runtime", "engine", "ladder", "no options", "nested in an engine"],
)
def test_a_typo_is_located_and_the_nearest_key_named(
    tmp_path: Path, text: str, message: str
) -> None:
    """Unknown keys are refused at every depth."""
    assert str(refused(tmp_path, text)) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('slots = "8"', "engines[0].slots: must be an integer: '8'"),
        ("slots = 8.0", "engines[0].slots: must be an integer: 8.0"),
        ("slots = true", "engines[0].slots: must be an integer: True"),
        ("name = 3", "engines[0].name: must be a string: 3"),
        ("caches_prefixes = 1", "engines[0].caches_prefixes: must be a boolean: 1"),
        ("slots = 0", "engines[0].slots: 'slots' must be >= 1: 0"),
        (
            "slots = 9\ntoken_budget = 8",
            "engines[0].token_budget: token_budget 8 is below slots 9",
        ),
        ("costs = 3", "engines[0].costs: must be a table: 3"),
        ("costs = {}", "engines[0].costs.step_ns: this key is needed"),
    ],
)
def test_a_wrong_value_is_located_and_shown(
    tmp_path: Path, line: str, message: str
) -> None:
    """Nothing is coerced, and validators of the options class speak with a path."""
    error = refused(tmp_path, f"{ENGINE}{line}\n")
    assert str(error) == message
    assert error.path == message.partition(":")[0]
    assert f"in {tmp_path / 'autellix.toml'}" in error.__notes__


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("3", "runtime.policy: must be a name or a table: 3"),
        ("{ beta = 2 }", "runtime.policy.kind: this key is needed"),
        ("{ kind = 2 }", "runtime.policy.kind: must be a string: 2"),
        (
            '{ kind = "plas", beta = "2" }',
            "runtime.policy.beta: must be a number: '2'",
        ),
        (
            '{ kind = "plas", charge = "time" }',
            "runtime.policy.charge: must be one of 'service', 'work': 'time'",
        ),
        (
            '{ kind = "plas", ladder = { bounds_s = "12", quanta_s = [1] } }',
            "runtime.policy.ladder.bounds_s: must be a list: '12'",
        ),
        (
            '{ kind = "plas", ladder = { bounds_s = [1, "2"], quanta_s = [1] } }',
            "runtime.policy.ladder.bounds_s[1]: must be a number: '2'",
        ),
        (
            '{ kind = "plas", ladder = { first_s = 1, ratio = 0.5, levels = 3 } }',
            "runtime.policy.ladder: ratio must be more than 1 and finite: 0.5",
        ),
    ],
)
def test_a_wrong_policy_is_located_and_shown(
    tmp_path: Path, policy: str, message: str
) -> None:
    """Tables inside tables keep their path."""
    text = f"[runtime]\npolicy = {policy}\n{ENGINE}"
    assert str(refused(tmp_path, text)) == message


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """The first is the error; each of the others is a note of one line on it."""
    error = refused(
        tmp_path,
        """
        [runtime]
        polcy = "atlas"
        balancer = "Locality"
        shutdown_s = "1"
        [[engines]]
        backend = "simulated"
        name = 3
        slost = 8
        kv_tokens = 3
        seed = "x"
        host_tokens = -1
        costs = { stpe_ns = 1, decode_ns = "2" }
        [[engines]]
        backend = "simluated"
        [[engines]]
        backend = "simulated"
        slots = 0
        """,
    )
    told = [str(error), *(note.removeprefix("also: ") for note in error.__notes__)]
    assert [line.partition(":")[0] for line in told[:-1]] == [
        "runtime.polcy",
        "runtime.shutdown_s",
        "runtime.balancer",
        "engines[0].slost",
        "engines[0].name",
        "engines[0].costs.stpe_ns",
        "engines[0].costs.step_ns",
        "engines[0].costs.prefill_ns",
        "engines[0].costs.decode_ns",
        "engines[0].seed",
        "engines[0].host_tokens",
        "engines[0].kv_tokens",
        "engines[1].backend",
        "engines[2].slots",
    ]
    assert told[-1] == f"in {tmp_path / 'autellix.toml'}"
    assert not any("\n" in line for line in told)


def test_a_default_that_stands_in_for_a_fault_is_no_fault(tmp_path: Path) -> None:
    """A budget of 4 tokens was meant for the slots of the file, not for 64."""
    error = refused(tmp_path, f'{ENGINE}slots = "4"\ntoken_budget = 4\n')
    assert str(error) == "engines[0].slots: must be an integer: '4'"
    assert [note for note in error.__notes__ if note.startswith("also")] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('name = ""', "engines[0].name: 'name' must not be empty: ''"),
        ('name = " "', "engines[0].name: 'name' must not be empty: ' '"),
    ],
)
def test_an_engine_has_a_name_to_be_read(
    tmp_path: Path, line: str, message: str
) -> None:
    """An empty one is refused once, whatever the backend would make of it."""
    error = refused(tmp_path, f"{ENGINE}{line}\n")
    assert str(error) == message
    assert error.__notes__ == [f"in {tmp_path / 'autellix.toml'}"]


@pytest.mark.parametrize(
    "ladder",
    [
        "{ first_s = 1.0, ratio = 1e300, levels = 8 }",
        "{ bounds_s = [1e305], quanta_s = [1, 1] }",
    ],
)
def test_a_ladder_too_large_to_count_is_located_and_shown(
    tmp_path: Path, ladder: str
) -> None:
    """An overflow on the way is a fault of the file like any other."""
    policy = f'{{ kind = "plas", ladder = {ladder} }}'
    told = str(refused(tmp_path, f"[runtime]\npolicy = {policy}\n{ENGINE}"))
    assert told.startswith("runtime.policy.ladder: a number is too large: {")
    assert re.search(r"1e\+30[05]", told)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (f'[runtime]\npolicy = "PLAS"\n{ENGINE}', "'plas'"),
        (f'[runtime]\nbalancer = "RoundRobin"\n{ENGINE}', "'round-robin'"),
        (f'{ENGINE}costs = "LLAMA-8B-H100"\n', "'llama-8b-h100'"),
        (f"{ENGINE}Slots = 3\n", "'slots'"),
    ],
    ids=["policy", "balancer", "costs", "key"],
)
def test_the_nearest_name_is_found_whatever_its_case(
    tmp_path: Path, text: str, hint: str
) -> None:
    """Who writes PLAS or LLAMA-8B is told how it is spelt here."""
    assert f"; did you mean {hint}?" in str(refused(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[engines]]\nbackend = "simluated"\n',
            (
                "engines[0].backend: unknown backend 'simluated'; "
                "did you mean 'simulated'?; installed: simulated, torch, vllm"
            ),
        ),
        (
            f'[runtime]\npolicy = "pals"\n{ENGINE}',
            (
                "runtime.policy: unknown policy 'pals'; did you mean 'plas'?; "
                "installed: atlas, fcfs, gittins, mlfq, plas, program-fcfs, srpt"
            ),
        ),
        (
            f'[runtime]\nbalancer = {{ kind = "random" }}\n{ENGINE}',
            (
                "runtime.balancer.kind: unknown balancer 'random'; "
                "installed: least-loaded, locality-aware, round-robin"
            ),
        ),
    ],
    ids=["backend", "policy", "balancer"],
)
def test_an_unknown_name_lists_what_is_installed(
    tmp_path: Path, text: str, message: str
) -> None:
    """So a typo and a missing package can be told apart."""
    assert str(refused(tmp_path, text)) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "engines: this key is needed"),
        (
            "engines = []",
            "engines: engines must be tables, [[engines]], one or more: []",
        ),
        ('engines = "a"', "engines: engines must be tables, [[engines]]: 'a'"),
        (
            '[engines]\nbackend = "simulated"',
            (
                "engines: engines must be tables in a list, also a single one: "
                "write [[engines]], not [engines]: {'backend': 'simulated'}"
            ),
        ),
        ("engines = [3]", "engines[0]: must be a table: 3"),
        ('engines = ["simulated"]', "engines[0]: must be a table: 'simulated'"),
        ("[[engines]]\nslots = 3", "engines[0].backend: this key is needed"),
        (f"runtime = 3\n{ENGINE}", "runtime: must be a table: 3"),
        (
            f"[runtime]\nshutdown_s = -1\n{ENGINE}",
            "runtime.shutdown_s: 'shutdown_s' must be >= 0.0: -1.0",
        ),
        (
            ENGINE + ENGINE,
            "engines[1].name: engines[0] has the name 'simulated' already",
        ),
        (
            f'{ENGINE}name = "a"\n{ENGINE}name = "b"\n{ENGINE}name = "a"\n',
            "engines[2].name: engines[0] has the name 'a' already",
        ),
    ],
)
def test_engines_are_needed_and_have_names_of_their_own(
    tmp_path: Path, text: str, message: str
) -> None:
    """A file without engines, or with two of one name, says so."""
    assert str(refused(tmp_path, text)) == message


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    """Missing files, other formats and other encodings come out as one class."""
    with pytest.raises(ConfigError, match=r"cannot be read: .*No such file"):
        load(tmp_path / "none.toml")
    assert "is not TOML" in str(refused(tmp_path, "engines = ["))
    (tmp_path / "autellix.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(tmp_path / "autellix.toml")


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("[runtime]\npolicy = atlas\n", "(at line 2, column 10): policy = atlas"),
        ("[runtime]\n  x 1 # y\n", "(at line 2, column 5): x 1 # y"),
        ("engines = [", "(at end of document)"),
    ],
)
def test_an_error_of_syntax_shows_its_line(tmp_path: Path, text: str, end: str) -> None:
    """A place in numbers alone sends one counting."""
    assert str(refused(tmp_path, text)).endswith(end)


def test_a_backend_without_its_dependencies_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import error behind an entry point says what to install, with the cause."""

    def fail(entry: EntryPoint) -> Any:
        raise ModuleNotFoundError("No module named 'tensorium'", name="tensorium")

    monkeypatch.setattr(EntryPoint, "load", fail)
    with pytest.raises(MissingExtra) as caught:
        load(written(tmp_path, '[runtime]\npolicy = "plas"\n' + ENGINE))
    assert caught.value.extra == "plas"
    with pytest.raises(MissingExtra) as caught:
        autellix.config.plugins.engine_from({"backend": "torch"}, "engines[0]")
    message = "backend 'torch' needs 'tensorium': pip install 'autellix[torch]'"
    assert str(caught.value) == message
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_without_cattrs_the_config_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a file needs the extra ``config``; saying so needs nothing."""
    monkeypatch.setitem(__import__("sys").modules, "cattrs.errors", None)
    with pytest.raises(MissingExtra, match=r"pip install 'autellix\[config\]'"):
        load(written(tmp_path, ENGINE))


def test_a_checked_configuration_is_a_record(tmp_path: Path) -> None:
    """Two readings of one file are equal."""
    path = written(tmp_path, ENGINE)
    first: Config = load(path)
    assert first == load(path)


@pytest.mark.parametrize("block", range(3))
def test_what_the_documentation_shows_is_good(tmp_path: Path, block: int) -> None:
    """Each configuration in the docs can be loaded as it stands."""
    text = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    if "torch" in text[block] and find_spec("torch") is None:
        pytest.skip("needs the extra torch")
    assert load(written(tmp_path, text[block])).engines


def test_the_example_is_good() -> None:
    """Its engines and policy are what its comments say."""
    config = load(EXAMPLE)
    assert [engine.name for engine in config.engines] == ["left", "right"]
    assert isinstance(config.policy, PLAS)
