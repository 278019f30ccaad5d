"""Build the book into _build/html, from scratch and with warnings as errors, then check its links and alt texts.

From scratch, because an incremental build neither repeats its warnings nor removes pages that left the contents.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts.check_site import problems

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"


def command(name: str) -> str:
    """Path of a command that is installed beside this Python."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


def readable(log: str) -> str:
    """The log without colours, Jupyter Book's repetition of an error, and stacks of errors that explain themselves."""
    log = re.sub(r"\x1b\[[\d;]*m", "", log)
    log = log.split("\nThe above exception was the direct cause")[0]
    return re.sub(r"Traceback \(most recent call last\):\n(?: .*\n)+(?=sphinx\.errors\.)", "", log).strip()


def main() -> int:
    shutil.rmtree(ROOT / "_build", ignore_errors=True)
    build = [command("jupyter-book"), "build", str(ROOT), "-W", "--keep-going", "-q"]
    done = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        print(readable(done.stdout))
        print("The book did not build: every warning printed here counts as an error.")
        return 1
    found = problems(SITE)
    if found:
        print("\n".join(found))
        return 1
    print(f"The book is built. Open {(SITE / 'index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
