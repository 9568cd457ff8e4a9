#!/bin/sh
# Corrections of a person, learned: the built-in model takes the epidermis of a skin slide for stroma; two regions of it
# are drawn as Tumor (epithelium), and another part of it, which was not drawn, is measured before and after.
#
#   sh examples/corrections.sh CMU-1-Small-Region.svs OUT [BRCA-M2C]
#
# The slide: https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/CMU-1-Small-Region.svs
# With BRCA-M2C, the data that the built-in model was trained on, its training images are learned from again, too, and it
# tells what was forgotten with and without that.
set -eu
slide=$1 out=$2
here=$(dirname "$0")
mkdir -p "$out"
learn() {
    name=$1
    shift
    dualproto-wsi train "$slide" --continue builtin --corrections "$here/corrections-cmu-1.geojson" \
        -o "$out/$name.safetensors" "$@"
}
learn corrected
if [ $# -gt 2 ]; then
    learn replayed --replay "$3"
fi
for model in builtin "$out"/*.safetensors; do
    name=$(basename "$model" .safetensors)
    dualproto-wsi segment "$slide" --model "$model" -o "$out/$name"
    dualproto-wsi evaluate "$out/$name" --truth "$here/corrections-cmu-1-truth.geojson"
done
if [ $# -gt 2 ]; then
    dualproto-wsi evaluate builtin "$out"/*.safetensors "$3" --gate none --bootstrap 0
fi
