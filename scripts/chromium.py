"""Find Chromium or Chrome for the browser tests, or install it where that is allowed: python scripts/chromium.py

Exit status: 0 found or installed, 77 missing and the browser tests have to be skipped, 1 missing although CI=true.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SKIPPED = 77
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/usr/bin/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)


def find() -> str | None:
    """Path of the browser: $CA14_CHROMIUM, else one on the PATH, else one in its usual place."""
    named = os.environ.get("CA14_CHROMIUM")
    if named:
        return named if Path(named).exists() else None
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or next((place for place in PLACES if Path(place).exists()), None)


def missing_message() -> str:
    """What to type to get a browser on this machine."""
    if os.environ.get("CA14_CHROMIUM"):
        return f"CA14_CHROMIUM names {os.environ['CA14_CHROMIUM']}, which does not exist"
    if shutil.which("apt-get"):
        return "no Chromium found; install it with: sudo apt-get update && sudo apt-get install -y chromium"
    if sys.platform == "darwin":
        return "no Chromium found; install it with: brew install --cask chromium"
    return "no Chromium found; install Chromium or Chrome, or set CA14_CHROMIUM to the path of one"


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def main() -> int:
    may_install = "CA14_CHROMIUM" not in os.environ and hasattr(os, "geteuid") and os.geteuid() == 0
    if find() is None and may_install and shutil.which("apt-get"):
        print("no Chromium found; installing Debian's")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
            if subprocess.call(command, env=environment, stdout=subprocess.DEVNULL):
                print("failed: " + " ".join(command))
                break
    browser = find()
    if browser:
        print(f"browser: {browser}")
        return 0
    print(missing_message())
    return 1 if in_ci() else SKIPPED


if __name__ == "__main__":
    sys.exit(main())
