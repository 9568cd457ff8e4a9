"""Reads what `segment` and `cohort` wrote, with pandas: where each table is and how they join.

python examples/cohort_synthetic.py cohort 40
(cd cohort && dualproto-wsi cohort results --metadata patients.csv --by arm -o report)
python examples/read_results.py cohort/results cohort/report
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd


def main(results: Path, report: Path) -> None:
    """Print a few answers."""
    slides = pd.read_csv(results / "slides.csv")
    print("What became of the slides:")
    print(slides["status"].value_counts().to_string(), end="\n\n")

    measures = pd.read_csv(report / "cohort.csv")
    meaning = pd.read_csv(report / "data_dictionary.csv").set_index("name")
    classes = [name.removesuffix("_mm2") for name in measures.columns if name.endswith("_mm2")]
    fractions = [f"{name}_fraction" for name in classes if f"{name}_fraction" in meaning.index]
    print("Shares of the analysed tissue, over slides:")
    print(measures[fractions].describe().loc[["count", "mean", "50%"]].round(3).to_string(), end="\n\n")
    for name in fractions[:2]:
        print(f"{name}: {meaning.loc[name, 'definition']}")

    patients = pd.read_csv(report / "patients.csv")
    print("\nMedians by group, over patients:")
    print(patients.groupby("group")[fractions].median().round(3).to_string(), end="\n\n")

    done = slides[slides["status"] == "done"].iloc[0]
    record = json.loads((results / done["folder"] / "record.json").read_text(encoding="utf-8"))
    print(f"{done['slide']}: {record['regions']} regions, a cell is {record['grid']['cell_um']:g} µm")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
