"""Typeset formulas with a MathJax that is part of the site, so that pages work from a folder without a network.

The PyPI package sphinx-mathjax-offline carries MathJax 3. One file of it is enough: tex-svg-full.js holds all of
TeX's input, the SVG output and the shapes of its characters, and fetches nothing else.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util.fileutil import copy_asset_file

SCRIPT = "tex-svg-full.js"


def bundled_script() -> Path:
    """Path of the bundled script inside the installed package."""
    package = find_spec("sphinx-mathjax-offline")
    for folder in (package.submodule_search_locations if package else None) or ():
        script = Path(folder) / "static" / "mathjax" / SCRIPT
        if script.exists():
            return script
    raise ExtensionError("formulas need the package sphinx-mathjax-offline: pip install -r requirements.lock")


def use_bundled_script(app: Sphinx, config: Config) -> None:
    config.mathjax_path = f"mathjax/{SCRIPT}"


def copy_bundled_script(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir) / "_static" / "mathjax"
        folder.mkdir(parents=True, exist_ok=True)
        copy_asset_file(str(bundled_script()), str(folder))


def setup(app: Sphinx) -> dict[str, Any]:
    bundled_script()
    app.connect("config-inited", use_bundled_script)
    app.connect("build-finished", copy_bundled_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
