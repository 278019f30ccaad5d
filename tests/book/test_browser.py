"""Every page of the built book in a real browser, from the file system, in light and in dark.

A page fails when it asks for anything from a network, throws an error, misses a file, leaves a formula untypeset or
has an accessibility violation that axe-core sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError, sync_playwright

from scripts.check_site import pages
from scripts.chromium import find, in_ci, missing_message

pytestmark = pytest.mark.book

SITE = Path(__file__).parents[2] / "_build" / "html"
# the site's own index.html only forwards to the first page, and does so before anything could be looked at
PAGES = [page for page in pages(SITE) if page != SITE / "index.html"]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# patience with a busy machine; a page takes a second or two
MILLISECONDS = 120_000
# Rules that this book cannot meet, each with the reason. Everything else must hold on every page.
ALLOWED: dict[str, str] = {}
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
FORMULAS = """() => {
    const written = document.querySelectorAll('.math').length;
    const typeset = document.querySelectorAll('mjx-container').length;
    const wrong = document.querySelectorAll('mjx-container [data-mjx-error], mjx-container [fill="red"]').length;
    return {written, typeset, wrong};
}"""
# Folded hints and solutions are part of the page, and axe looks only at what is unfolded. The shapes of the characters
# of a formula are hidden from assistive technology, which reads its MathML; axe is twice as fast without them.
PREPARE = """() => {
    document.head.append(document.createElement('style'));
    document.head.lastChild.textContent = '* { transition: none !important; }';
    document.querySelectorAll('details').forEach(fold => { fold.open = true; });
    document.querySelectorAll('.toggle-hidden > button.toggle-button').forEach(button => button.click());
    document.querySelectorAll('mjx-container > svg[aria-hidden="true"]').forEach(formula => formula.replaceChildren());
}"""
# Contrast depends on a text's colours, size and weight, so one text of each kind stands for all that look like it: the
# rules on colours take most of axe's time, and a page of five thousand texts has some hundred kinds.
SAMPLE = """() => {
    const layers = new Map();
    const behind = element => {
        if (!element) return '';
        if (!layers.has(element)) {
            const style = getComputedStyle(element);
            const own = style.backgroundImage + style.backgroundColor + style.opacity;
            const plain = style.backgroundImage === 'none' && style.opacity === '1';
            const opaque = plain && style.backgroundColor.startsWith('rgb(');
            layers.set(element, opaque ? own : own + '/' + behind(element.parentElement));
        }
        return layers.get(element);
    };
    const kinds = new Set();
    for (const element of document.body.querySelectorAll('*')) {
        delete element.dataset.sample;
        const text = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        const control = ['INPUT', 'BUTTON', 'SELECT', 'TEXTAREA'].includes(element.tagName);
        if (!(text || control) || !element.checkVisibility()) continue;
        const style = getComputedStyle(element), around = getComputedStyle(element.parentElement);
        const link = element.tagName === 'A' ? around.color + style.textDecorationLine : '';
        const kind = [style.color, style.fontSize, style.fontWeight, style.textShadow, behind(element), link].join();
        if (control || !kinds.has(kind)) element.dataset.sample = '';
        kinds.add(kind);
    }
}"""
# preload would fetch style sheets again, which file:// refuses
AXE = "([where, rules]) => axe.run(where, {resultTypes: ['violations'], preload: false, ...rules})"
OVERFLOW = """() => {
    const screen = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= screen + 1) return '';
    const wide = [...document.querySelectorAll('main *')].filter(x => x.getBoundingClientRect().right > screen + 1);
    return wide.slice(0, 3).map(x => x.tagName.toLowerCase() + '.' + x.className).join(', ') || 'the page';
}"""


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    path = find()
    if path is None:
        if in_ci():
            pytest.fail(missing_message())
        pytest.skip(missing_message())
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=MILLISECONDS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def axe_source() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf8")


def loaded(page, address: str) -> list[str]:
    """Open the page and wait for its formulas; returns what went wrong, one line each."""
    found: list[str] = []
    page.on("request", lambda request: _note_remote(request.url, found))
    page.on("requestfailed", lambda request: found.append(f"did not load: {request.url} ({request.failure})"))
    page.on("pageerror", lambda error: found.append(f"page error: {error}"))
    page.goto(address, wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise")
    formulas = page.evaluate(FORMULAS)
    if formulas["written"] != formulas["typeset"] or formulas["wrong"]:
        found.append("formulas: {written} written, {typeset} typeset, {wrong} with an error".format(**formulas))
    return found


def violations(page, scheme: str, structure: bool) -> list[str]:
    """What axe finds with the page shown in one scheme, of its colours and, if asked for, of its structure."""
    found, results = [], []
    page.emulate_media(color_scheme=scheme)
    try:
        page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
    except TimeoutError:
        found.append(f"{scheme}: the page does not follow the scheme that the reader's system asks for")
    if structure:
        others = {"rules": {rule: {"enabled": False} for rule in COLOUR_RULES}}
        results += page.evaluate(AXE, ["html", others])["violations"]
    page.evaluate(SAMPLE)
    results += page.evaluate(AXE, [{"include": [["[data-sample]"]]}, {"runOnly": COLOUR_RULES}])["violations"]
    for violation in results:
        if violation["id"] not in ALLOWED:
            places = " | ".join(" ".join(map(str, node["target"])) for node in violation["nodes"])
            found.append(f"{scheme}: axe {violation['id']} ({violation['impact']}): {violation['help']}: {places}")
    return found


def overflow(page) -> list[str]:
    """What sticks out of a phone's screen and makes the whole page scroll sideways."""
    page.set_viewport_size({"width": 390, "height": 800})
    wide = page.evaluate(OVERFLOW)
    return [f"wider than a phone's screen: {wide}"] if wide else []


def _note_remote(address: str, found: list[str]) -> None:
    if not address.startswith(("file:", "data:", "blob:")):
        found.append(f"asks a network for {address}")


def test_the_book_is_built() -> None:
    assert PAGES, "no page in _build/html: run `make book`"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(SITE).with_suffix("").as_posix())
def test_page_works_offline_and_is_accessible(path: Path, browser, axe_source: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.set_default_timeout(MILLISECONDS)
    try:
        found = loaded(page, path.as_uri())
        page.evaluate(PREPARE)
        page.evaluate(axe_source)
        found += violations(page, "light", structure=True)
        found += violations(page, "dark", structure=False)
        found += overflow(page)
    finally:
        page.close()
    if found:
        pytest.fail("\n".join(found), pytrace=False)


FAINT = """colours => {
    for (const text of ['one', 'two', 'three']) {
        const line = document.createElement('p');
        line.style = 'padding: 1em; background: ' + colours[1];
        line.innerHTML = '<span style="color: ' + colours[0] + '">' + text + ' faint words</span>';
        document.querySelector('main').prepend(line);
    }
}"""


@pytest.mark.parametrize("scheme, colours", [("light", ["#bbb", "#fff"]), ("dark", ["#444", "#222"])])
def test_faint_words_and_a_picture_without_a_text_are_noticed(scheme, colours, browser, axe_source: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.set_default_timeout(MILLISECONDS)
    try:
        page.goto((SITE / "book" / "index.html").as_uri(), wait_until="load")
        page.evaluate(axe_source)
        assert not violations(page, scheme, structure=True)
        page.evaluate(FAINT, colours)
        page.evaluate("() => document.querySelector('main').prepend(document.createElement('img'))")
        found = violations(page, scheme, structure=True)
    finally:
        page.close()
    assert len(found) == 2
    assert any("color-contrast" in line for line in found)
    assert any("image-alt" in line for line in found)


def test_search_finds_pages_without_a_network(browser) -> None:
    page = browser.new_page()
    page.set_default_timeout(MILLISECONDS)
    try:
        page.goto((SITE / "search.html").as_uri() + "?q=expectile", wait_until="load")
        page.wait_for_selector("#search-results li a")
        addresses = page.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
    finally:
        page.close()
    assert any("iql" in address for address in addresses), addresses
