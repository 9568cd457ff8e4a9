"""The formats that only TIAToolbox opens; its import takes seconds, once."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
import zarr

from dualproto_wsi.errors import MissingPixelSize, SlideUnreadable
from dualproto_wsi.geometry import Box
from dualproto_wsi.settings import ReadSettings
from dualproto_wsi.slide.reader import open_slide

pytestmark = pytest.mark.filterwarnings("ignore")


def write_ome(path, levels, mpp=0.5):
    size = {f"PhysicalSize{axis}": mpp for axis in "XY"} | {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    common = {"tile": (128, 128), "photometric": "rgb", "compression": "deflate"}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(levels[0], subifds=1, metadata={"axes": "YXS"} | (size if mpp else {}), **common)
        tiff.write(levels[1], subfiletype=1, **common)


def write_ngff(path, levels, mpp=0.5):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for i, level in enumerate(levels):
        key = {"name": "v2", "separator": "/"}
        array = group.create_array(
            str(i), shape=level.shape, chunks=(128, 128, 3), dtype="uint8", chunk_key_encoding=key
        )
        array[:] = level
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scales = [[mpp * factor, mpp * factor, 1.0] for factor in (1, 4)]
    datasets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for i, scale in enumerate(scales)
    ]
    window = {"start": 0, "end": 255, "min": 0, "max": 255}
    channel = {"active": True, "coefficient": 1, "family": "linear", "inverted": False, "window": window}
    group.attrs.update(
        name="wave",
        version="0.4",
        multiscales=[{"version": "0.4", "axes": [*axes, {"name": "c", "type": "channel"}], "datasets": datasets}],
        omero={
            "name": "wave",
            "id": 1,
            "version": "0.4",
            "channels": [channel | {"label": name, "color": "FFFFFF"} for name in "RGB"],
            "rdefs": {"defaultT": 0, "defaultZ": 0, "model": "color"},
        },
    )


@pytest.fixture(scope="module")
def slides(tmp_path_factory, wave_levels):
    folder = tmp_path_factory.mktemp("formats")
    write_ome(folder / "wave.ome.tif", wave_levels)
    write_ngff(folder / "wave.zarr", wave_levels)
    cv2.imwrite(str(folder / "wave.png"), wave_levels[0][..., ::-1])
    strips = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "strips.tif", wave_levels[0], photometric="rgb", metadata=None, **strips)
    return folder


@pytest.mark.parametrize(
    ("name", "source", "downsamples"),
    [
        ("wave.ome.tif", "OME PhysicalSizeX", (1, 4)),
        ("wave.zarr", "TIAToolbox metadata", (1,)),
        ("wave.png", "missing", (1,)),
        ("strips.tif", "tiff resolution tag", (1,)),
    ],
)
def test_formats(slides, wave_levels, wave_at, name, source, downsamples):
    with open_slide(slides / name) as slide:
        info = slide.info
        assert (info.reader, info.width, info.height, info.content) == (
            "tiatoolbox",
            1203,
            901,
            Box(0, 0, 1203, 901),
        )
        assert info.mpp_source == source
        assert info.mpp == (None if source == "missing" else pytest.approx(0.5))
        assert info.downsamples == downsamples
        exact = slide.read(Box(37, 41, 300, 250), (300, 250))
        corner = slide.read(Box(-10, -20, 60, 60), (60, 60))
        for ratio in (1.0112, 2.0, 4.0, 4.3):
            got = slide.read(Box(300.3, 200.6, 90 * ratio, 80 * ratio), (90, 80)).astype(float)
            assert np.abs(got - wave_at(300.3, 200.6, ratio, (90, 80))).max() < 3.5
    assert (exact == wave_levels[0][41:291, 37:337]).all()
    assert (corner[:20] == 255).all()
    assert (corner[:, :10] == 255).all()
    assert (corner[20:, 10:] == wave_levels[0][:40, :50]).all()


def test_same_pixels_as_openslide(shared):
    path = shared / "data/slides/CMU-1-Small-Region.svs"
    boxes = [(Box(500, 700, 448, 448), (448, 448)), (Box(500.5, 700.2, 453, 453), (448, 448))]
    with (
        open_slide(path, ReadSettings(reader="tiatoolbox")) as one,
        open_slide(path, ReadSettings(reader="openslide")) as other,
    ):
        assert (one.info.mpp, one.info.reader) == (0.499, "tiatoolbox")
        for box, size in boxes:
            assert np.abs(one.read(box, size).astype(int) - other.read(box, size)).max() <= 1


def test_bounds_are_handed_through(shared, tmp_path):
    scn = shared / "data/slides/bounds.scn"
    with pytest.raises(SlideUnreadable, match=r"bounds.scn: TIAToolbox cannot open it"):  # it does not take the ending
        open_slide(scn, ReadSettings(reader="tiatoolbox"))
    path = tmp_path / "bounds.svs"
    path.write_bytes(scn.read_bytes())
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for page in tiff.pages:
            page.tags["ResolutionUnit"].overwrite(2)  # nor a file that says "no unit"
    with open_slide(tmp_path / "bounds.svs", ReadSettings(reader="tiatoolbox")) as slide:
        assert slide.info.content == Box(1000, 600, 2048, 1536)


@pytest.mark.parametrize("reader", ["jpeg", "openslide", "tiatoolbox"])
def test_objective_power_is_a_hint_and_no_pixel_size(tmp_path, write_slide, wave_levels, reader):
    path = write_slide(
        tmp_path / "power.svs",
        wave_levels[0],
        mpp=None,
        compression="jpeg",
        resolution=(1, 1),
        resolutionunit="INCH",
        description="Aperio Image Library v1\n1203x901 (128x128) JPEG/RGB Q=70|AppMag = 40",
    )
    with open_slide(path, ReadSettings(reader=reader)) as slide:
        assert slide.info.reader == reader
        with pytest.raises(MissingPixelSize) as error:
            slide.info.require_mpp()
    assert str(error.value) == (
        "power.svs: no pixel size in the file; pass --mpp (microns per pixel) "
        "(tiff resolution tag of 25400 µm is not a slide's; objective power 40x suggests --mpp 0.25)"
    )


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n", b"II*\0\x08\0\0\0", b"\xff\xd8\xff\xe0"])
def test_damaged_images_are_refused(tmp_path, start):
    name = {0x89: "bad.png", 0x49: "bad.tif", 0xFF: "bad.jpg"}[start[0]]
    (tmp_path / name).write_bytes(start + b"\x55" * 500)
    with pytest.raises(SlideUnreadable, match=r"bad\.\w+: "):
        open_slide(tmp_path / name)
    (tmp_path / "empty.zarr").mkdir(exist_ok=True)
    with pytest.raises(SlideUnreadable, match=r"empty.zarr: TIAToolbox cannot open it"):
        open_slide(tmp_path / "empty.zarr")
