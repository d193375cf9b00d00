"""Accuracy of every student of finished runs, with differences paired by seed, as Markdown.

    python -m benchmarks.lelp_table runs/lelp-digits kd/1 kd/8

names the folder of a scenario's results and the baselines. Accuracies are in per cent; differences
are in points with their 95 % Student-t intervals over seeds, and the seeds won.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fedkd.files import read_json
from fedkd.metrics.intervals import interval


def table(folder: Path, baselines: list[str]) -> list[str]:
    """Return the lines of a Markdown table over all seeds below a folder."""
    results = [read_json(file) for file in sorted(folder.glob("*/*/result.json"))]
    accuracy = {
        key: [100 * result[group][key]["accuracy"] for result in results]
        for group in ("methods", "references")
        for key in results[0][group]
    }
    lines = [
        f"| {len(results)} seeds | accuracy | " + " | ".join(f"− {b}" for b in baselines) + " |",
        "|---|---|" + "---|" * len(baselines),
    ]
    for key, values in accuracy.items():
        cells = [f"{interval(values).mean:.2f}"]
        for base in baselines:
            if base == key:
                cells.append("")
                continue
            apart = [a - b for a, b in zip(values, accuracy[base], strict=True)]
            found = interval(apart)
            won = sum(value > 0 for value in apart)
            half = 0.0 if found.half_width is None else found.half_width
            cells.append(f"{found.mean:+.2f} ± {half:.2f}, {won}/{len(apart)}")
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    print("\n".join(table(Path(sys.argv[1]), sys.argv[2:])))
