"""The makespan of one start, the number of ways to share out targets, and whether agents are in each other's way."""

import itertools
from collections import deque
from math import comb, factorial

import numpy as np

from ca14lib.solvers.target_grid import target_grid_plan

Cell = tuple[int, int]
MOVES = ((0, 0), (0, 1), (0, -1), (-1, 0), (1, 0))


def makespan(agents: list[Cell], targets: list[Cell]) -> int:
    return int(target_grid_plan(np.array([agents]), np.array([targets])).makespan[0])


def ways(targets: int, agents: int) -> int:
    return factorial(targets) * comb(targets + agents - 1, agents - 1)


def steps_without_collision(agents: tuple[Cell, ...], targets: tuple[Cell, ...], size: int) -> int:
    """Fewest steps in which agents that never want one cell collect everything, by breadth-first search."""
    start = (agents, frozenset(targets))
    depth, queue = {start: 0}, deque([start])
    while queue:
        cells, left = queue.popleft()
        if not left:
            return depth[cells, left]
        options = [[(x + dx, y + dy) for dx, dy in MOVES] for x, y in cells]
        inside = [[cell for cell in near if min(cell) >= 0 and max(cell) < size] for near in options]
        for after in itertools.product(*inside):
            following = (after, left - set(after))
            if len(set(after)) == len(after) and following not in depth:
                depth[following] = depth[cells, left] + 1
                queue.append(following)
    raise AssertionError("every start can be finished")


def obstructed(size: int, agents: int, targets: int) -> list[tuple[tuple[Cell, ...], tuple[Cell, ...]]]:
    """All starts in which getting out of each other's way costs time."""
    cells = list(itertools.product(range(size), repeat=2))
    return [
        (where, what)
        for where in itertools.combinations(cells, agents)
        for what in itertools.combinations([cell for cell in cells if cell not in where], targets)
        if steps_without_collision(where, what, size) > makespan(list(where), list(what))
    ]


if __name__ == "__main__":
    print("makespan", makespan([(0, 0), (7, 7)], [(0, 3), (3, 0), (7, 4)]))
    print("ways", ways(3, 4), ways(8, 32))
    for size, targets in ((2, 1), (2, 2), (3, 1), (3, 2)):
        print(f"side {size}, 2 agents, {targets} targets: {len(obstructed(size, 2, targets))} obstructed starts")
