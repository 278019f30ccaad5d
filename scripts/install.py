"""Make .venv and install the course with everything it needs: python3 scripts/install.py

On Linux with CPython 3.11 the versions are those of requirements.lock. Anywhere else pip resolves the
ranges of pyproject.toml. Nothing but Python is needed, so this is also the way for machines without make.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / ".stamp"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


def locked_here():
    """True where the lock holds: Linux, CPython 3.11."""
    return (
        sys.platform.startswith("linux")
        and platform.python_implementation() == "CPython"
        and sys.version_info[:2] == (3, 11)
    )


def environment_python():
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    print("  " + " ".join(str(part) for part in command[1:]), flush=True)
    if subprocess.call([str(part) for part in command], cwd=str(ROOT), env=environment):
        sys.exit("The installation stopped at the command printed last.")


def pip_has_own_source(python):
    """True where pip is told about a folder or page of wheels: that is where it then finds torch."""
    settings = subprocess.run([str(python), "-m", "pip", "config", "list"], stdout=subprocess.PIPE, check=False).stdout
    return b"find-links" in settings or b"pytorch.org" in settings


def torch_index(python):
    """Arguments that make pip take a CPU build of torch, empty where it does so by itself.

    PyPI's Linux build brings several gigabytes of CUDA libraries that nothing here uses.
    """
    if sys.platform.startswith("linux") and not pip_has_own_source(python):
        return ["--index-url", CPU_WHEELS]
    return []


def locked_version(package):
    for line in LOCK.read_text(encoding="utf8").splitlines():
        if line.startswith(package + "=="):
            return line.split("==")[1].split()[0]
    sys.exit(package + " is not in requirements.lock")


def main():
    if sys.version_info < (3, 11):  # noqa: UP036 - this one file is for whoever has an older Python
        sys.exit(
            f"This course needs Python 3.11 or newer; {sys.executable} is {platform.python_version()}.\n"
            "Install a newer one and name it: make book PYTHON=/path/to/python3.11"
        )
    python = environment_python()
    if not python.exists():
        print(f"Creating .venv with Python {platform.python_version()}", flush=True)
        run(sys.executable, "-m", "venv", VENV)
    install = [python, "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    index = torch_index(python)
    if index:
        run(*install, *index, "torch==" + locked_version("torch") if locked_here() else "torch>=2.4,<3")
    if locked_here():
        run(*install, "-r", LOCK)
        run(*install, "--no-deps", "--no-build-isolation", "-e", ROOT)
    else:
        print("Not Linux with CPython 3.11: versions come from the ranges in pyproject.toml", flush=True)
        run(*install, "-e", str(ROOT) + "[book,notebooks,test,bench,tensorboard,export,scale,grading]")
    STAMP.touch()
    print(f"Installed into {VENV}", flush=True)


if __name__ == "__main__":
    main()
