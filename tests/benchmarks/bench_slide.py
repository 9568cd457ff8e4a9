"""Seconds a step and peak memory of the whole job, against the size of the slide.

python tests/benchmarks/bench_slide.py --sides 4096,16384
python tests/benchmarks/bench_slide.py --slides a.svs b.tif -- --refine fast --min-area 200

Slides of these sides are made up (see synthetic.py), mapped by ``dualproto-wsi segment`` in a process of their own, and
its record.json is read. ``after`` is everything behind the model: blending, refinement, labels, sieve, tracing, writing
and the overlay. ``overhead`` is all but the waiting for pixels and for the model, for a window. The memory that the
process has with the model loaded, before any slide, is measured too. Options behind ``--`` go to ``segment``.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from synthetic import CELLS, MPP, truth, write_slide

AFTER = ("blend", "refine", "label", "sieve", "trace", "write", "overlay")
LOADED = """
from dualproto_wsi.workflow.batch import record
from dualproto_wsi.workflow import segment
from dualproto_wsi.workflow.mapping.engine import Engine
from dualproto_wsi.workflow.models import prepare_model
from dualproto_wsi.settings import InferenceSettings
import numpy as np
settings = InferenceSettings(device="cpu")
engine = Engine(prepare_model(settings)[0], settings)
engine.launch(np.zeros((engine.windows_at_once, engine.model.window_px, engine.model.window_px, 3), np.uint8))()
print(record.peak_memory_bytes())
"""


def map_slide(slide: Path, out: Path, options: list[str]) -> dict[str, object]:
    """Map a slide in a process of its own; return its record."""
    command = [sys.executable, "-m", "dualproto_wsi", "segment", str(slide), "-o", str(out), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with (out / "slides.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    return json.loads((out / row["folder"] / "record.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="", help="px, with commas")
    parser.add_argument("--slides", type=Path, nargs="*", default=[])
    parser.add_argument("options", nargs="*", help="for segment")
    given = parser.parse_args()
    base = int(subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout)
    sys.stdout.write(f"with the model loaded and run once: {base / 1e6:.0f} MB\n\n")
    steps = ("tissue", "read", "infer", *AFTER)
    head = "".join(f"{step:>8}" for step in (*steps, "total", "after"))
    sys.stdout.write(f"{'slide':28}{'Mcells':>7}{'windows':>8}{head}{'overhead':>12}{'beyond':>10}  tissue found\n")
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(slide, None) for slide in given.slides]
        for side in filter(None, given.sides.split(",")):
            jobs.append((Path(folder) / f"{side}.tif", int(side)))
        for slide, side in jobs:
            if side:
                write_slide(slide, side)
            record = map_slide(slide, Path(folder) / f"out-{slide.name}", given.options)
            seconds = record["seconds"]
            after = sum(seconds.get(step, 0) for step in AFTER)
            shown = "".join(f"{seconds.get(s, 0):8.1f}" for s in steps) + f"{seconds['total']:8.1f}{after:8.1f}"
            cells = record["grid"]["columns"] * record["grid"]["rows"]
            overhead = 1e3 * (after + seconds["tissue"]) / max(record["tiles"], 1)
            found = f"{record['tissue_mm2']:.2f} mm²"
            if side:
                found += f" of {(truth(side) > 0).sum() * (CELLS * MPP * 1e-3) ** 2:.2f}"
                slide.unlink()
            beyond = f"{(record['peak_memory_bytes'] - base) / 1e6:.0f} MB"
            sys.stdout.write(
                f"{slide.name[:27]:28}{cells / 1e6:7.1f}{record['tiles']:8d}{shown}"
                f"{overhead:9.1f} ms{beyond:>10}  {found}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
