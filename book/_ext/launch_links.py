"""A line under the title of every notebook page: download it, or open it on Colab or Binder.

The services need to know where the sources are published. That is the setting `repository_address` of _config.yml;
while it is empty there is only the download, and the theme shows no repository button.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError
from sphinx.transforms import SphinxTransform

BRANCH = "main"


def colab_address(repository: str, notebook: str) -> str:
    return f"https://colab.research.google.com/github{urlsplit(repository).path}/blob/{BRANCH}/{quote(notebook)}"


def binder_address(repository: str, notebook: str) -> str:
    return f"https://mybinder.org/v2/gh{urlsplit(repository).path}/{BRANCH}?labpath={quote(notebook, safe='')}"


class LaunchLine(SphinxTransform):
    """Inserts the line after the page's title."""

    default_priority = 400  # before the files to be downloaded are collected

    def apply(self, **kwargs: Any) -> None:
        source = Path(self.env.doc2path(self.env.docname))
        title = next(iter(self.document.findall(nodes.title)), None)
        if source.suffix != ".ipynb" or title is None or not isinstance(title.parent, nodes.section):
            return
        notebook = source.relative_to(self.env.srcdir).as_posix()
        line = nodes.paragraph("", "", classes=["launch-line"])
        line += addnodes.download_reference(
            "", "", nodes.Text("Download this notebook"), reftarget="/" + notebook, refdoc=self.env.docname
        )
        repository = self.config.repository_address
        if repository:
            line += [
                nodes.Text(" · "),
                nodes.reference("", "Open it on Colab", refuri=colab_address(repository, notebook)),
                nodes.Text(" (run "),
                nodes.literal("", f"%pip install git+{repository}"),
                nodes.Text(" there first) · "),
                nodes.reference("", "Open it on Binder", refuri=binder_address(repository, notebook)),
            ]
        title.parent.insert(title.parent.index(title) + 1, line)


def use_repository(app: Sphinx, config: Config) -> None:
    address = config.repository_address = config.repository_address.rstrip("/").removesuffix(".git")
    if not address:
        return
    parts = urlsplit(address)
    if parts.netloc != "github.com" or len(parts.path.strip("/").split("/")) != 2:
        raise ConfigError(f"repository_address must read https://github.com/OWNER/NAME, got {address!r}")
    config.html_theme_options = config.html_theme_options | {
        "repository_url": address,
        "repository_branch": BRANCH,
        "use_repository_button": True,
        "use_issues_button": True,
    }


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("repository_address", "", "env", [str])
    app.connect("config-inited", use_repository)
    app.add_transform(LaunchLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
