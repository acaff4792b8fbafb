"""What must hold for the installed wheel where only its core dependencies are.

Not collected by pytest: the ``wheel`` session of the noxfile runs it as a script, in an
environment without extras and outside the source tree.
"""

import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

IMPORT_LIMIT_S = 0.3
CORE_DISTRIBUTIONS = {
    *("anyio", "attr", "attrs", "autellix", "idna", "sniffio", "typing_extensions"),
}
PROBE = """
import sys, time
started = time.process_time()
import autellix
print(time.process_time() - started)
print(*{name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))
"""


def check_import() -> None:
    """``import autellix`` is quick and loads its core dependencies only."""
    spent_s = []
    loaded: set[str] = set()
    for _ in range(3):  # the first may still read from a cold disk
        command = [sys.executable, "-I", "-c", PROBE]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, names = answer.stdout.splitlines()
        spent_s.append(float(seconds))
        loaded |= {name for name in names.split() if not name.startswith("_")}
    print(f"import autellix: {min(spent_s):.3f} s of CPU, loads {sorted(loaded)}")
    assert loaded <= CORE_DISTRIBUTIONS, loaded - CORE_DISTRIBUTIONS
    assert min(spent_s) < IMPORT_LIMIT_S, spent_s


def check_files() -> None:
    """The wheel itself is what is tested, and it tells type checkers it is typed."""
    package = files("autellix")
    assert "site-packages" in Path(str(package)).parts, package
    assert package.joinpath("py.typed").is_file()


def check_entry_points() -> None:
    """Every policy, and the backend that needs no extra, load by name."""
    policies = entry_points(group="autellix.policies")
    for policy in policies:
        assert callable(policy.load()), policy
    backends = entry_points(group="autellix.backends")
    backends["simulated"].load()
    print(f"policies: {sorted(policies.names)}; backends: {sorted(backends.names)}")


if __name__ == "__main__":
    check_files()
    check_import()
    check_entry_points()
