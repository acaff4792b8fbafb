"""Prepare an environment for this checkout, then run a command in it.

    python3 bootstrap.py autellix demo
    python3 bootstrap.py nox

Any Python from 3.11 on will do and nothing has to be installed first. The environment
is the virtual one that runs this file, else ``.venv`` beside it, made when missing.
Everything in it that is already right is left alone, so this can be run again at any
time: after an interruption it goes on, and when nothing changed it starts the command
at once.

Only the standard library is used, and nothing newer than Python 3.7 in the syntax, so
that an old Python reads far enough to say that it is too old.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent
CONSTRAINTS = ROOT / "constraints" / "cpu.txt"
INPUTS = (ROOT / "pyproject.toml", CONSTRAINTS, ROOT / "bootstrap.py")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> int:
    """Prepare the environment, run the command, return its exit code."""
    if sys.version_info < OLDEST_PYTHON:
        found = sys.version.split()[0]
        oldest = ".".join(map(str, OLDEST_PYTHON))
        say("this is Python " + found + "; autellix needs " + oldest + " or newer")
        return 2
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    active = sys.prefix != sys.base_prefix
    prefix = Path(sys.prefix) if active else ROOT / ".venv"
    try:
        prepare(prefix)
    except subprocess.CalledProcessError as error:
        say(f"stopped: exit code {error.returncode} from {' '.join(error.cmd)}")
        say("the output above says why; run the same command again to go on")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
        return 130
    return run(prefix, sys.argv[1:])


def say(line: str) -> None:
    """Print a line of our own, at once and apart from the output of the tools."""
    print("bootstrap:", line, file=sys.stderr, flush=True)


def bin_folder(prefix: Path) -> Path:
    """Return where an environment keeps its commands."""
    return prefix / ("Scripts" if os.name == "nt" else "bin")


def prepare(prefix: Path) -> None:
    """Bring the environment in line with this checkout, unless it already is.

    Raises:
        subprocess.CalledProcessError: If a tool failed; it has printed why.
    """
    stamp = prefix / "autellix-bootstrap.stamp"
    wanted = fingerprint()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    say(f"preparing {prefix}; the first time takes a few minutes")
    python = str(bin_folder(prefix) / "python")
    if prefix == ROOT / ".venv" and not answers(python, "import pip"):
        say("1/4 making the virtual environment")
        check(sys.executable, "-m", "venv", str(prefix))
    say("2/4 updating pip")
    pip_install(python, "--quiet", "--upgrade", "pip>=25.1")  # knows --group
    if answers(python, "import torch; torch.Tensor"):
        say("3/4 keeping the torch that is installed")
    else:
        say("3/4 installing torch for the CPU (about 200 MB)")
        pip_install(python, *torch_arguments(python))
    say("4/4 installing autellix, what its demo needs, and the tools of its tests")
    pip_install(python, "--editable", ".[cpu]", "--group", "dev")
    stamp.write_text(wanted, encoding="utf-8")
    say("ready")


def fingerprint() -> str:
    """Return what the environment depends on: these files, and this folder."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in INPUTS:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def torch_arguments(python: str) -> "list[str]":
    """Return pip's arguments for the CPU build of torch.

    On Linux the Python Package Index offers a build that brings several GB of CUDA
    packages. Where pip is set up to find the CPU build, that one is taken; elsewhere it
    comes from PyTorch's own index.

    Raises:
        subprocess.CalledProcessError: If pip finds no torch at all.
    """
    arguments = ["--no-deps", "--ignore-installed"]  # a broken one may be there
    arguments += ["--constraint", str(CONSTRAINTS), "torch"]
    question = ["--dry-run", "--quiet", "--report", "-", *arguments]
    answer = subprocess.run(
        [python, "-m", "pip", "install", *question],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    found = json.loads(answer.stdout)["install"][0]["metadata"]["version"]
    if sys.platform != "linux" or found.endswith("+cpu"):
        return arguments
    say(f"pip would take torch {found} with CUDA; asking {TORCH_CPU_INDEX} instead")
    return [*arguments, "--index-url", TORCH_CPU_INDEX]


def answers(python: str, code: str) -> bool:
    """Tell whether that Python exists and runs the code without an error."""
    if not Path(python).exists():
        return False
    command = [python, "-c", code]
    ended = subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    return ended.returncode == 0


def pip_install(python: str, *arguments: str) -> None:
    """Install into the environment of that Python; pip's whole talk only if it fails.

    Raises:
        subprocess.CalledProcessError: If pip failed; what it said has been printed.
    """
    options = ["--disable-pip-version-check", "--progress-bar", "off"]
    command = [python, "-m", "pip", "install", *options, *arguments]
    talk = []
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as pip:
        for line in pip.stdout or ():
            talk.append(line)
            news = line.strip()
            if news.startswith(("Downloading", "Installing collected")):
                print("   ", news[:80], file=sys.stderr, flush=True)
    if pip.returncode != 0:
        print(*talk, sep="", file=sys.stderr, flush=True)
        raise subprocess.CalledProcessError(pip.returncode, command)


def check(*command: str) -> None:
    """Run a command in the root of this checkout; failure is an exception."""
    subprocess.run(command, cwd=ROOT, check=True)


def run(prefix: Path, command: "list[str]") -> int:
    """Run a command of the environment as if it were activated."""
    folder = bin_folder(prefix)
    if not command:
        say(f"nothing to run; the commands are in {folder}")
        return 0
    path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])
    program = shutil.which(command[0], path=path)
    if program is None:
        say(f"no such command: {command[0]}")
        return 127
    environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(prefix)}
    with subprocess.Popen([program, *command[1:]], env=environment) as child:
        while True:
            try:
                code = child.wait()
            except KeyboardInterrupt:
                continue  # the child got it too, and decides how to end
            return code if code >= 0 else 128 - code  # killed by a signal


if __name__ == "__main__":
    sys.exit(main())
