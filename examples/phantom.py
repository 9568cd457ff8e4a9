"""Writes a phantom: made-up tissue with known masks, to train on from image-level labels alone and to score.

python examples/phantom.py PHANTOM
dualproto-wsi train PHANTOM --layout bcss-wsss --mpp 0.5 -o m.safetensors
dualproto-wsi evaluate m.safetensors PHANTOM --layout bcss-wsss --mpp 0.5 --split test
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dualproto_wsi.data.phantom import write_phantom

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a phantom in the layout bcss-wsss, at 0.5 µm/px.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=72, help="images to train on (default: 72)")
    parser.add_argument("--val", type=int, default=16, help="images with masks to validate on (default: 16)")
    parser.add_argument("--test", type=int, default=24, help="images with masks to score (default: 24)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same images (default: 0)")
    given = parser.parse_args()
    write_phantom(given.folder, given.train, given.val, given.test, seed=given.seed)
