"""How many copies get lost, and how many strangers get matched, when somebody changes the queries for it.

    python experiments/attacks/attack.py --benchmark ../shared/bench/dev --output outputs/attacks

Two goals: copies that are to be found no more, and strangers that are to be taken for copies of some reference. Two ways: along the
gradient (who attacks has the weights), and by small steps that need scores only. No pixel changes by more than the budget. The changed
pictures are saved as PNG, and judged by the model alone and by whole strategies, which know nothing of the attack.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from judging import judge_all, read, tabulate, write
from perturb import Pictures, follow_gradient, search
from targets import Attacked, Target, aim
from torch import Tensor

from matcher.errors import UsageError
from matcher.metrics.csv_file import read_columns
from matcher.storage.aside import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from script import run_script

logger = logging.getLogger(__name__)
Way = Literal["gradient", "search"]


def attack(
    benchmark: str,
    output: str,
    *,
    targets: Sequence[Target] = ("descriptor", "pair model"),
    ways: Sequence[Way] = ("gradient", "search"),
    budgets: Sequence[int] = (2, 8),
    count: int = 30,
    steps: int = 20,
    tries: int = 150,
    side: int = 300,
    strategies: Sequence[str] = ("run/keypoints.yaml", "run/full.yaml"),
    seed: int = 0,
) -> None:
    """Attack some copies and some strangers of a benchmark, and print what came of it.

    Args:
        benchmark: folder with queries/, references/ and ground_truth.csv
        output: folder of the changed pictures, results.json and table.md
        targets: models that are attacked
        ways: how
        budgets: the most that a pixel changes, of 255
        count: copies, and strangers
        steps: of the gradient
        tries: scores that the search asks for, for each picture
        side: pictures are shrunk to this shorter side first
        strategies: run files whose verdict is asked too
        seed: of the search
    """
    folder = Path(output)
    pictures, references = choose(Path(benchmark), count, side)
    models = {name: aim(name, pictures, references) for name in targets}
    made = {"nobody": pictures}
    for name, target in models.items():
        for way in ways:
            for budget in budgets:
                made[f"{name}, {way}, {budget}"] = change(target, pictures, way, budget / 255, steps=steps, tries=tries, seed=seed)
                logger.info("attacked the %s by %s within %d of 255", name, way, budget)
    write(made, references, folder)
    said = judge_all(list(made), folder, models, strategies)
    write_json(folder / "results.json", said)
    table = tabulate(said, count)
    (folder / "table.md").write_text(table, encoding="utf-8")
    print(table)


def choose(benchmark: Path, count: int, side: int) -> tuple[list[Tensor], list[Tensor]]:
    """Benchmark -> its first ``count`` copies, then as many strangers; and the references of the copies. UsageError if there are fewer."""
    queries, references = read_columns(benchmark / "ground_truth.csv", ["query_id", "reference_id"])
    pairs = list(zip(queries, references, strict=True))
    copies = [pair for pair in pairs if pair[1]][:count]
    strangers = [query for query, reference in pairs if not reference][:count]
    if len(copies) < count or len(strangers) < count:
        raise UsageError(f"{benchmark} has {len(copies)} copies and {len(strangers)} strangers: make --count smaller")
    asked = [query for query, _ in copies] + strangers
    return read(benchmark / "queries", asked, side), read(benchmark / "references", [reference for _, reference in copies], side)


def change(target: Attacked, pictures: Pictures, way: Way, budget: float, *, steps: int, tries: int, seed: int) -> list[Tensor]:
    """Copies, then as many strangers -> copies that the target believes in less, and strangers that it believes in more."""
    count = len(pictures) // 2
    sign = torch.cat([-torch.ones(count), torch.ones(count)])
    if way == "gradient":
        return follow_gradient(pictures, target, budget=budget, steps=steps, sign=sign)
    return search(pictures, target, budget=budget, steps=tries, sign=sign, generator=torch.Generator().manual_seed(seed))


if __name__ == "__main__":
    raise SystemExit(run_script(attack))
