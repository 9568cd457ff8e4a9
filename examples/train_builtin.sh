#!/bin/sh
# Makes the built-in model anew, from image-level labels of crops, and scores it beside a linear probe that was trained
# on the points themselves. 9 to 19 minutes on one core.
#
# BRCA-M2C: https://github.com/TopoXLab/Dataset-BRCA-M2C (a folder with train.txt, val.txt, images/, labels/).
# Needs the sentence encoder: pip install 'dualproto-wsi[train]'
set -eu
data=${1:?usage: train_builtin.sh FOLDER_OF_BRCA_M2C [BUNDLE]}
bundle=${2:-compact-breast.safetensors}

dualproto-wsi train "$data" -o "$bundle"
dualproto-wsi evaluate "$bundle" "$data" --split val --probe
