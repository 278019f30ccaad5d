"""Check a built site without a network: python scripts/check_site.py _build/html

Every link and anchor leads somewhere, no page loads anything from another address, every image says in words what
it shows, and no id is used twice on a page.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

# what makes the browser fetch something, and what only leads somewhere once the reader clicks
LOADS = {
    "img": "src",
    "script": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "link": "href",
}
LEADS = {"a": "href"}
# sphinx-proof and sphinx-exercise give the body of each block the same id
SHARED_IDS = {"proof-content", "exercise-content", "solution-content"}
FILE_NAME = re.compile(r"\.(png|svg|jpe?g|gif|webp)$", re.IGNORECASE)
REMOTE_CSS = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])(?:https?:)?//[^'")\s]+""")
REMOTE_SCRIPT = re.compile(r"""(?:\bimport\s*\(|\bfrom\s+|\.src\s*=|fetch\()\s*['"`](?:https?:)?//[^'"`]+""")


def pages(site: Path) -> list[Path]:
    """HTML pages that a reader can open, without the assets in _static and _sources."""
    return sorted(
        page for page in site.rglob("*.html") if not {"_static", "_sources"} & set(page.relative_to(site).parts)
    )


def problems(site: str | Path) -> list[str]:
    """Everything that is wrong with the site, one line each."""
    site = Path(site).resolve()
    soups = {page: BeautifulSoup(page.read_text("utf8"), "html.parser") for page in pages(site)}
    if not soups:
        return [f"{site}: no page there; run `make book`"]
    anchors = {page: set(_ids(soup)) | _names(soup) for page, soup in soups.items()}
    found = []
    for page, soup in soups.items():
        name = page.relative_to(site)
        for problem in (
            *_targets(page, soup, anchors, site),
            *_remote(soup),
            *_images(soup),
            *_repeated_ids(soup),
        ):
            found.append(f"{name}: {problem}")
    for sheet in sorted(site.rglob("*.css")):
        found += [f"{sheet.relative_to(site)}: loads {hit}" for hit in REMOTE_CSS.findall(sheet.read_text("utf8"))]
    return found


def _ids(soup: BeautifulSoup) -> list[str]:
    return [str(tag["id"]) for tag in soup.find_all(id=True)]


def _names(soup: BeautifulSoup) -> set[str]:
    return {str(tag["name"]) for tag in soup.find_all("a", attrs={"name": True})}


def _tags(soup: BeautifulSoup, kinds: dict[str, str]) -> Iterator[tuple[Tag, str]]:
    for kind, attribute in kinds.items():
        for tag in soup.find_all(kind, attrs={attribute: True}):
            yield tag, str(tag[attribute])


def _targets(page: Path, soup: BeautifulSoup, anchors: dict[Path, set[str]], site: Path) -> Iterator[str]:
    for tag, address in _tags(soup, LOADS | LEADS):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if target.is_dir():
            target /= "index.html"
        if not target.is_relative_to(site):
            yield f"{tag.name} leads out of the site: {address}"
        elif not target.exists():
            yield f"{tag.name} leads to {address}, which does not exist"
        elif parts.fragment and target in anchors and unquote(parts.fragment) not in anchors[target]:
            yield f"no anchor {address}"


def _remote(soup: BeautifulSoup) -> Iterator[str]:
    for tag, address in _tags(soup, LOADS):
        parts = urlsplit(address)
        if (parts.netloc or parts.scheme not in ("", "data")) and "canonical" not in (tag.get("rel") or []):
            yield f"{tag.name} loads {address}"
    for script in soup.find_all("script", src=False):
        yield from (f"script loads {hit}" for hit in REMOTE_SCRIPT.findall(script.get_text()))
    for tag in soup.find_all(style=True):
        yield from (f"style loads {hit}" for hit in REMOTE_CSS.findall(str(tag["style"])))


def _images(soup: BeautifulSoup) -> Iterator[str]:
    for image in soup.find_all("img"):
        words, source = str(image.get("alt") or "").strip(), str(image.get("src") or "")
        if not words or words == source or FILE_NAME.search(words):
            yield f"image {source} has no alt text (alt={words!r})"


def _repeated_ids(soup: BeautifulSoup) -> Iterator[str]:
    for identifier, count in Counter(_ids(soup)).items():
        if count > 1 and identifier not in SHARED_IDS:
            yield f"id {identifier!r} stands {count} times"


if __name__ == "__main__":
    found = problems(sys.argv[1] if len(sys.argv) > 1 else "_build/html")
    print("\n".join(found) or "links, anchors, alt texts and assets are in order")
    sys.exit(bool(found))
