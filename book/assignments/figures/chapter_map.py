"""Which chapter needs which others, and the figure of it: python book/assignments/figures/chapter_map.py

``tests/book/test_routes.py`` holds the map to the book's contents and to the links in its pages, and the figure to the
map.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

FIGURE = Path(__file__).with_name("chapter-map.svg")
SECTIONS = {  # name of the folder: title, colour on white
    "": ("Before the sections", "#444444"),
    "offline": ("Offline", "#00609a"),
    "safe": ("Safe", "#a33f00"),
    "multi_agent": ("Multi-agent", "#00694e"),
    "robust": ("Robust", "#8a3475"),
    "evaluation": ("Evaluation and applications", "#5a5200"),
}
# Page: its name in the figure, and what has to be read before it. Only what is needed directly: what a prerequisite
# needs itself is not repeated. Indexes and pages of exercises are left out; they need their whole section or nothing.
CHAPTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "yardsticks": ("Exact yardsticks", ()),
    "offline/theory": ("What data can teach", ("yardsticks",)),
    "offline/data": ("Datasets", ("offline/theory",)),
    "offline/bc": ("Behaviour cloning", ("offline/theory",)),
    "offline/dqn": ("DQN", ("offline/theory",)),
    "offline/cql": ("CQL", ("offline/bc", "offline/dqn")),
    "offline/iql": ("IQL", ("offline/bc", "offline/dqn")),
    "offline/awr": ("AWR", ("offline/iql",)),
    "offline/bcq": ("BCQ", ("offline/iql",)),
    "offline/td3bc": ("TD3+BC", ("offline/bc", "offline/dqn")),
    "offline/sac": ("SAC", ("offline/data", "offline/dqn")),
    "offline/off_policy_evaluation": ("Off-policy evaluation", ("offline/dqn",)),
    "offline/choosing": ("Choosing a method", ("offline/cql", "offline/awr", "offline/bcq", "offline/td3bc")),
    "offline/applications": ("Applications of offline learning", ("offline/off_policy_evaluation",)),
    "safe/theory": ("The best policy within a limit", ("yardsticks",)),
    "safe/ppo": ("PPO", ("yardsticks",)),
    "safe/lagrangian": ("Multipliers", ("safe/theory", "safe/ppo")),
    "safe/cpo": ("CPO", ("safe/theory", "safe/ppo")),
    "safe/policy_gradients": ("Gradients of costs and tails", ("safe/lagrangian",)),
    "safe/risk": ("Risk measures", ("yardsticks",)),
    "safe/mechanisms": ("Mechanisms", ("safe/theory",)),
    "safe/planning": ("Planning with limits", ("safe/theory", "safe/risk")),
    "safe/environments": ("Environments with costs", ("safe/theory",)),
    "safe/applications": ("Applications with limits", ("safe/mechanisms", "safe/environments")),
    "multi_agent/theory": ("Several agents at once", ("yardsticks",)),
    "multi_agent/games": ("Games", ("multi_agent/theory",)),
    "multi_agent/value_decomposition": ("Value decomposition", ("offline/dqn", "multi_agent/theory")),
    "multi_agent/mappo": ("PPO for teams", ("safe/ppo", "multi_agent/theory")),
    "multi_agent/maddpg": ("MADDPG", ("offline/dqn", "multi_agent/theory")),
    "multi_agent/maac": ("MAAC", ("multi_agent/maddpg",)),
    "multi_agent/credit": ("Credit", ("multi_agent/theory",)),
    "multi_agent/communication": ("Communication", ("multi_agent/mappo",)),
    "multi_agent/competition": ("Competition", ("multi_agent/games",)),
    "multi_agent/environments": ("Environments for teams", ("multi_agent/theory",)),
    "multi_agent/applications": ("Applications of teams", ("multi_agent/environments",)),
    "robust/theory": ("The worst model of a set", ("safe/risk",)),
    "robust/domain_randomisation": ("Domain randomisation", ("safe/ppo",)),
    "robust/domain_adaptation": ("Domain adaptation", ("robust/domain_randomisation",)),
    "robust/adversarial": ("Attacks", ("safe/ppo", "robust/theory")),
    "robust/distributional": ("Return distributions", ("offline/dqn", "safe/risk")),
    "robust/bayesian": ("Posterior sampling", ("offline/dqn",)),
    "robust/uncertainty": ("Uncertainty", ("yardsticks",)),
    "robust/environments": ("Environments that vary", ("robust/domain_randomisation",)),
    "robust/applications": (
        "Applications under shift",
        ("robust/theory", "robust/bayesian", "robust/uncertainty", "robust/environments"),
    ),
    "evaluation/framework": ("Who is best, and at what?", ("yardsticks",)),
    "evaluation/healthcare": ("Healthcare", ("offline/off_policy_evaluation",)),
    "evaluation/driving": ("Driving", ("safe/mechanisms", "multi_agent/mappo")),
    "evaluation/trading": ("Trading", ("safe/lagrangian", "safe/risk", "multi_agent/games")),
    "evaluation/robotics": ("Robots", ("safe/lagrangian", "robust/domain_randomisation")),
    "evaluation/industrial": ("Industrial control", ("safe/lagrangian", "safe/mechanisms")),
    "evaluation/energy": ("Energy", ("multi_agent/mappo",)),
    "evaluation/deployment": ("Deployment", ("safe/mechanisms", "robust/uncertainty")),
    "evaluation/scale": ("Many runs", ("yardsticks",)),
    "evaluation/future": ("How to read a hybrid", ("offline/off_policy_evaluation",)),
    "evaluation/offline_safe": ("Limits from a log", ("offline/bcq", "safe/lagrangian")),
    "evaluation/fine_tuning": ("From a log to the world", ("offline/cql",)),
    "evaluation/robust_safe": ("A limit in every wind", ("safe/lagrangian", "robust/theory")),
    "evaluation/partners": ("Partners never met", ("multi_agent/mappo",)),
    "evaluation/continual": ("Continual learning", ("offline/dqn",)),
    "evaluation/preferences": ("Preferences", ("yardsticks",)),
    "evaluation/foundation_models": ("Foundation models", ("offline/bc", "evaluation/preferences")),
    "evaluation/neurosymbolic": ("Logic and programs", ("safe/mechanisms",)),
    "evaluation/conclusions": (
        "What this course measured",
        ("offline/cql", "safe/lagrangian", "safe/mechanisms", "multi_agent/value_decomposition", "robust/adversarial"),
    ),
}

# What has to be read before each assignment, again only what is needed directly.
ASSIGNMENTS: dict[str, tuple[str, ...]] = {
    "introduction": (),
    "offline": ("offline/data", "offline/cql", "offline/awr", "offline/bcq"),
    "safe": ("safe/lagrangian", "safe/cpo", "safe/risk", "safe/mechanisms"),
    "multi-agent": (
        "multi_agent/games",
        "multi_agent/value_decomposition",
        "multi_agent/maddpg",
        "multi_agent/credit",
        "multi_agent/communication",
    ),
    "robust": ("robust/adversarial", "robust/distributional", "robust/bayesian", "robust/uncertainty"),
    "evaluation": ("evaluation/framework", "robust/environments"),
}

WIDTH, TOP, ROW, HEADING, GAP = 520, 18, 21, 24, 10
SPINE, NAMES, NOTES, LINE = 68, 82, 292, 42  # where dots, names and notes stand, and characters of a line of notes
FRAME = 'rx="8" fill="#ffffff" stroke="#d0d0d0"'


def section(page: str) -> str:
    """Folder of a page, empty for a page that stands before the sections."""
    return page.rpartition("/")[0]


def everything_before(page: str) -> set[str]:
    """All chapters that have to be read before a page, over any number of steps."""
    found: set[str] = set()
    waiting = list(CHAPTERS[page][1])
    while waiting:
        needed = waiting.pop()
        if needed not in found:
            found.add(needed)
            waiting += CHAPTERS[needed][1]
    return found


def description() -> str:
    """The figure in words, for those who cannot see it."""
    needed_by = {page: sum(page in needs for _, needs in CHAPTERS.values()) for page in CHAPTERS}
    most = sorted(needed_by, key=lambda page: -needed_by[page])[:6]
    counts = ", ".join(f"{CHAPTERS[page][0]} ({needed_by[page]})" for page in most)
    return (
        f"The {len(CHAPTERS)} chapters in one column, in the order of the book and grouped by section. "
        "Within a section an arc leads from each chapter down to every chapter that needs it directly; "
        "what a chapter needs of other sections stands beside it. Nothing needs what comes later. "
        f"Needed most: {counts}. The list of what each chapter needs says the same in words."
    )


def drawing() -> str:
    """The figure: chapters in a column, arcs to those of the same section that need them, the others as words."""
    heights, headings = _rows()
    bottom = max(heights.values()) + ROW + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" role="img"'
        ' font-family="Helvetica, Arial, sans-serif" font-size="14" fill="#222222">',
        "  <title>Which chapter needs which others</title>",
        f'  <rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{bottom - 1}" {FRAME}/>',
        '  <g fill="none" stroke-width="1.5">',
    ]
    for page, (_, needs) in CHAPTERS.items():
        for needed in (needed for needed in needs if section(needed) == section(page)):
            start, end = heights[needed], heights[page]
            bend = SPINE - 10 - 0.29 * (end - start)
            path = f"M{SPINE} {start}C{bend:.0f} {start} {bend:.0f} {end} {SPINE} {end}"
            parts.append(f'    <path d="{path}" stroke="{SECTIONS[section(page)][1]}"/>')
    parts.append("  </g>")
    parts.append(
        f'  <text x="{NOTES}" y="{headings[""]}" font-size="12" fill="#555555">what it needs of other sections</text>'
    )
    for folder, height in headings.items():
        title, colour = SECTIONS[folder]
        parts.append(f'  <text x="{NAMES}" y="{height}" fill="{colour}" font-weight="bold">{title}</text>')
    for page, height in heights.items():
        colour = SECTIONS[section(page)][1]
        parts.append(f'  <circle cx="{SPINE}" cy="{height}" r="4.5" fill="{colour}" stroke="#ffffff"/>')
        parts.append(f'  <text x="{NAMES}" y="{height + 5}">{CHAPTERS[page][0]}</text>')
        for number, line in enumerate(_notes(page)):
            names = [f'<tspan fill="{SECTIONS[section(name)][1]}">{CHAPTERS[name][0]}</tspan>' for name in line]
            place = f'x="{NOTES}" y="{height + 4 + 16 * number}"'
            parts.append(f'  <text {place} font-size="12" fill="#555555">{", ".join(names)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _notes(page: str) -> list[list[str]]:
    """What a page needs of other sections, in lines that fit beside it."""
    lines: list[list[str]] = []
    for needed in (needed for needed in CHAPTERS[page][1] if section(needed) != section(page)):
        fits = lines and sum(len(CHAPTERS[name][0]) + 2 for name in (*lines[-1], needed)) <= LINE
        lines = [*lines[:-1], [*lines[-1], needed]] if fits else [*lines, [needed]]
    return lines


def _rows() -> tuple[dict[str, int], dict[str, int]]:
    """Heights of the chapters' dots, and of the lines of the sections' names."""
    heights: dict[str, int] = {}
    headings: dict[str, int] = {}
    height = TOP - GAP
    for before, page in pairwise(("", *CHAPTERS)):
        if not before or section(before) != section(page):
            headings[section(page)] = height + GAP + 10
            height += GAP + HEADING
        heights[page] = height
        height += ROW
    return heights, headings


if __name__ == "__main__":
    FIGURE.write_text(drawing(), "utf8")
