from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from dualproto_wsi.errors import MissingPixelSize, SlideNotFound, SlideUnreadable
from dualproto_wsi.geometry import Box
from dualproto_wsi.settings import ReadSettings
from dualproto_wsi.slide import pyramid
from dualproto_wsi.slide.reader import find_slides, open_slide

RATIOS = [0.3, 1.0, 1.0112, 1.5, 2.0, 3.0, 3.7, 4.0, 4.0448, 7.0]


def shift_px(got: np.ndarray, expected: np.ndarray) -> float:
    """Shift between two pictures along x and y by least squares, result px; the larger one."""
    difference = got - expected
    slopes = np.gradient(expected, axis=(1, 0))
    parts = [slope - slope.mean(axis=(0, 1)) for slope in slopes]  # rounding's own bias is no shift
    return max(abs((difference * part).sum() / (part * part).sum()) for part in parts)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("corner", [(100, 60), (400.37, 300.81), (1000, 700)])
def test_a_box_holds_what_lies_there_at_every_ratio(wave_slide, wave_at, ratio, corner):
    size = int(min(160, 180 / ratio)), int(min(120, 180 / ratio))
    with open_slide(wave_slide) as slide:
        got = slide.read(Box(*corner, size[0] * ratio, size[1] * ratio), size).astype(float)
    expected = wave_at(*corner, ratio, size)
    assert got.shape == (size[1], size[0], 3)
    # Noise and rounding make 2.5 levels at most; a triangle filter takes some of the crests; no place may be off.
    assert np.abs(got - expected).max() < 2.5 + 80 * (1 - np.exp(-((max(ratio, 1) / 22) ** 2) / 5))
    # cv2 interpolates at steps of 1/32 px of the level that is read, here the second one for ratios of 4 and more.
    assert shift_px(got, expected) * ratio < (0.05 if ratio < 4 else 0.05 + 4 / 64)


def test_level_0_at_its_own_scale_is_not_touched(wave_slide, wave_levels):
    with open_slide(wave_slide) as slide:
        got = slide.read(Box(37, 41, 300, 250), (300, 250))
        nearly = slide.read(Box(37 + 1e-7, 41, 300 * (1 + 1e-8), 250), (300, 250))
    assert (got == wave_levels[0][41:291, 37:337]).all()
    assert (nearly == got).all()


def test_a_fraction_of_a_pixel_is_honoured_at_scale_1(wave_slide, wave_at):
    with open_slide(wave_slide) as slide:
        got = slide.read(Box(100.5, 60.25, 200, 200), (200, 200)).astype(float)
    assert shift_px(got, wave_at(100.5, 60.25, 1, (200, 200))) < 0.03


@pytest.mark.parametrize("ratio", [0.7, 1.0112, 2.0, 4.3])
def test_neighbouring_boxes_join_as_if_read_at_once(wave_slide, ratio):
    n = int(100 / ratio)
    box = Box(300.3, 200.6, 2 * n * ratio, n * ratio)
    with open_slide(wave_slide) as slide:
        whole = slide.read(box, (2 * n, n)).astype(int)
        left = slide.read(Box(box.x, box.y, n * ratio, n * ratio), (n, n))
        right = slide.read(Box(box.x + n * ratio, box.y, n * ratio, n * ratio), (n, n))
    # Sums are rounded twice to 8 bits; a level below the first may be interpolated by OpenSlide itself.
    assert np.abs(np.hstack((left, right)) - whole).max() <= (1 if ratio < 4 else 2)


def test_a_large_read_in_parts_equals_one_in_a_piece(wave_slide, monkeypatch):
    box, size = Box(10.2, 20.7, 1100, 800), (411, 299)
    with open_slide(wave_slide) as slide:
        whole = slide.read(box, size).astype(int)
        monkeypatch.setattr(pyramid, "LARGEST_READ_PX", 10_000)
        parts = slide.read(box, size)
    assert np.abs(parts - whole).max() <= 1


def test_a_read_longer_than_opencv_takes(tmp_path, write_slide):
    ramp = np.repeat((np.arange(40_000) // 200).astype(np.uint8)[None, :, None], 3, axis=2)
    path = write_slide(tmp_path / "long.tif", np.repeat(ramp, 64, axis=0))
    with open_slide(path) as slide:
        got = slide.read(Box(0, 10, 39_600, 29.7), (40_000, 30))
    assert np.abs(got[..., 0] - np.arange(40_000) * 0.99 / 200).max() <= 1.1


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.0112, 1.3, 1.7, 2.0])
def test_the_filter_is_pillows(ratio):
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    window = (4.375, 5.625, 4.375 + 120 * ratio, 5.625 + 100 * ratio)  # whole steps of 1/32 px
    got = pyramid.triangle_resize(noise, Box(*window[:2], 120 * ratio, 100 * ratio), (120, 100)).astype(float)
    pillow = Image.fromarray(noise).resize((120, 100), Image.Resampling.BILINEAR, box=window)
    difference = got - np.asarray(pillow)
    same = ratio in (1, 2)
    assert np.abs(difference).max() <= (2 if same else 60)  # of colours that leap by up to 255 from pixel to pixel
    assert difference.std() < (0.7 if same else 12)
    assert abs(difference.mean()) < 0.6


@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_an_even_colour_stays_as_it_is(value):
    flat = np.full((40, 40, 3), value, np.uint8)
    for ratio in np.linspace(1, 2, 65):
        assert (pyramid.triangle_resize(flat, Box(3.3, 3.7, 16 * ratio, 16 * ratio), (16, 16)) == value).all()


def test_outside_the_slide_is_white(wave_slide, wave_levels):
    with open_slide(wave_slide) as slide:
        corner = slide.read(Box(-10, -20, 60, 60), (60, 60))
        far = slide.read(Box(5000, 5000, 80, 80), (40, 40))
        end = slide.read(Box(1200, 898, 6, 6), (6, 6))
    assert (corner[:20] == 255).all()
    assert (corner[:, :10] == 255).all()
    assert (corner[20:, 10:] == wave_levels[0][:40, :50]).all()
    assert (far == 255).all()
    assert (end[3:] == 255).all()
    assert (end[:3, :3] == wave_levels[0][898:, 1200:]).all()


def test_an_empty_box_or_size_is_refused(wave_slide):
    with open_slide(wave_slide) as slide:
        for box, size in [(Box(0, 0, 0, 5), (5, 5)), (Box(0, 0, 5, 5), (0, 5))]:
            with pytest.raises(ValueError, match="must have an extent"):
                slide.read(box, size)


def test_threads_get_what_one_reader_alone_gets(wave_slide):
    boxes = [Box(7.3 * i, 5.1 * i, 200, 150) for i in range(24)]
    with open_slide(wave_slide) as slide:
        alone = [slide.read(box, (150, 100)) for box in boxes]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda box: slide.read(box, (150, 100)), boxes))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_info_of_a_plain_pyramid(wave_slide):
    with open_slide(wave_slide) as slide:
        info = slide.info
    assert (info.width, info.height, info.reader, info.vendor) == (1203, 901, "openslide", "generic-tiff")
    assert info.downsamples == (1.0, 4.0)  # OpenSlide's own figure is 3.997
    assert info.mpp == pytest.approx(0.5)
    assert info.mpp_source == "tiff resolution tag"
    assert info.content == Box(0, 0, 1203, 901)
    assert info.name == "wave.tif"


@pytest.mark.parametrize(
    ("level", "base", "reported", "exact"),
    [
        ((3673, 1727), (58764, 27624), 15.99714, 16.0),
        ((919, 432), (58764, 27624), 63.94393, 64.0),
        ((2221, 1783), (4443, 3567), 2.0005, 2.0),
        ((100, 100), (1000, 1000), 10.0, 10.0),
        ((400, 400), (1000, 1000), 2.5, 2.5),
        ((1000, 1000), (1000, 1000), 1.0, 1.0),
        ((480, 480), (1000, 1000), 2.0833, 2.0833),
    ],
)
def test_exact_downsample(level, base, reported, exact):
    assert pyramid.exact_downsample(level, base, reported) == exact


def test_the_option_replaces_the_pixel_size_of_the_file(wave_slide):
    with open_slide(wave_slide, ReadSettings(mpp=0.25)) as slide:
        assert (slide.info.require_mpp(), slide.info.mpp_source) == (0.25, "option --mpp")


def test_a_missing_pixel_size_is_said_in_one_line(tmp_path, write_slide):
    path = write_slide(tmp_path / "no.tif", np.full((300, 300, 3), 240, np.uint8), mpp=None)
    with open_slide(path) as slide:
        assert slide.info.mpp is None
        assert slide.info.mpp_source == "missing"
        with pytest.raises(MissingPixelSize) as error:
            slide.info.require_mpp()
    assert str(error.value) == "no.tif: no pixel size in the file; pass --mpp (microns per pixel)"


@pytest.mark.parametrize("dpi", [1, 72, 96, 300])
def test_the_resolution_of_a_screen_is_no_pixel_size(tmp_path, dpi):
    path = tmp_path / "dpi.tif"
    pixels = np.full((300, 300, 3), 240, np.uint8)
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", resolution=(dpi, dpi), resolutionunit="INCH")
    with open_slide(path) as slide, pytest.raises(MissingPixelSize, match=r"tag of [0-9.]+ µm is not a slide's"):
        slide.info.require_mpp()


def test_a_missing_slide(tmp_path):
    with pytest.raises(SlideNotFound, match=r"gone.svs: no such slide; check the path"):
        open_slide(tmp_path / "gone.svs")


@pytest.mark.parametrize("name", ["text.svs", "text.tif", "text.mrxs", "text.png"])
@pytest.mark.parametrize("reader", ["auto", "openslide"])
def test_a_text_file_is_no_slide(tmp_path, name, reader):
    path = tmp_path / name
    path.write_text("no slide\n" * 100)
    with pytest.raises(SlideUnreadable, match=r"text\..*: no reader knows this file; is it a complete slide"):
        open_slide(path, ReadSettings(reader=reader))


def test_an_empty_file_and_a_folder_are_no_slides(tmp_path):
    (tmp_path / "empty.svs").touch()
    with pytest.raises(SlideUnreadable, match=r"empty.svs: the file is empty; copy or export it again"):
        open_slide(tmp_path / "empty.svs")
    with pytest.raises(SlideUnreadable, match=r"a folder, not a slide; name a slide in it"):
        open_slide(tmp_path)


def test_a_truncated_slide_is_refused(tmp_path, wave_slide):
    path = tmp_path / "cut.tif"
    path.write_bytes(wave_slide.read_bytes()[:5000])
    with pytest.raises(SlideUnreadable, match=r"cut.tif: "):
        open_slide(path, ReadSettings(reader="openslide"))


def test_a_damaged_tile_is_found_when_it_is_read(tmp_path, wave_levels, write_slide):
    path = write_slide(tmp_path / "bad.tif", wave_levels[0], compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        start, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start : start + count] = b"\x55" * count
    path.write_bytes(data)
    with (
        open_slide(path, ReadSettings(reader="openslide")) as slide,
        pytest.raises(SlideUnreadable, match=r"bad.tif: pixels near .* cannot be decoded"),
    ):
        slide.read(Box(0, 0, 100, 100), (100, 100))


def test_find_slides(tmp_path):
    for name in ("b/2.svs", "b/10.TIF", "a/1.ndpi", "a/.hidden.svs", ".cache/x.svs", "a/notes.txt", "a/overlay.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "m" / "scan").mkdir(parents=True)
    (tmp_path / "m" / "scan.mrxs").touch()
    (tmp_path / "m" / "scan" / "Data0000.tif").touch()
    (tmp_path / "n" / "image.zarr" / "0").mkdir(parents=True)
    found = [path.relative_to(tmp_path).as_posix() for path in find_slides([tmp_path])]
    assert found == ["a/1.ndpi", "b/10.TIF", "b/2.svs", "m/scan.mrxs", "n/image.zarr"]


def test_find_slides_keeps_what_was_named(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "s.svs").touch()
    gone = tmp_path / "gone.svs"
    named = [gone, tmp_path / "a.png", tmp_path, tmp_path / "s.svs"]
    assert find_slides(named) == [gone, tmp_path / "a.png", tmp_path / "s.svs"]


def test_find_slides_follows_links_and_ends(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "s.svs").touch()
    (tmp_path / "in").mkdir()
    try:
        (tmp_path / "in" / "link").symlink_to(tmp_path / "store")
        (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    except OSError:
        pytest.skip("this file system makes no symbolic links")
    assert find_slides([tmp_path / "in"]) == [tmp_path / "in" / "link" / "s.svs"]


def test_a_real_aperio_slide(shared):
    with open_slide(shared / "data/slides/CMU-1-Small-Region.svs", ReadSettings(reader="openslide")) as slide:
        assert (slide.info.mpp, slide.info.mpp_source, slide.info.vendor) == (0.499, "openslide.mpp-x", "aperio")
        half = slide.read(Box(0, 0, 2000, 2000), (1000, 1000)).astype(float)
        full = slide.read(Box(0, 0, 2000, 2000), (2000, 2000)).astype(float)
    assert np.abs(full.reshape(1000, 2, 1000, 2, 3).mean(axis=(1, 3)) - half).max() <= 0.51


def test_levels_of_a_real_pyramid_lie_on_each_other(shared):
    with open_slide(shared / "data/slides/breast-lobular-carcinoma-20x.tif") as slide:
        assert slide.info.downsamples == (1, 4, 16, 64)
        box = Box(41024, 12032, 16 * 128, 16 * 128)
        from_16 = slide.read(box, (128, 128)).astype(float)
        from_4 = slide.read(box, (512, 512)).reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
    assert shift_px(from_16, from_4) < 0.05


def test_qupath_content_box(shared):
    with open_slide(shared / "data/slides/bounds.scn") as slide:
        content = slide.info.content
        assert content == Box(1000, 600, 2048, 1536)
        pixels = slide.read(content, (2048, 1536)).astype(int)
        with pytest.raises(MissingPixelSize, match=r"objective power 20x suggests --mpp 0.5"):
            slide.info.require_mpp()
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 60)
    rows, columns = np.nonzero(red)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (300, 500, 100, 200)


def test_closing_waits_for_reads_under_way(make_slide, tmp_path):
    slide = make_slide(tmp_path / "a.tif", 3000, 3000)

    def read(reader):
        with contextlib.suppress(ctypes.ArgumentError):  # closed before it began
            reader.read(reader.info.content, (1500, 1500))

    for _ in range(10):
        reader = open_slide(slide)
        threads = [threading.Thread(target=read, args=(reader,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.005)
        reader.close()  # without waiting, OpenSlide aborts the process
        for thread in threads:
            thread.join()
