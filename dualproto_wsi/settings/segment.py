"""Settings of the segment job, a section a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from dualproto_wsi.settings.checks import one_of, require
from dualproto_wsi.settings.features import FeatureSettings
from dualproto_wsi.settings.refine import RefineSettings
from dualproto_wsi.settings.run import RunSettings

READERS = ("auto", "jpeg", "openslide", "tiatoolbox")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FORMATS = ("geojson", "geojson.gz")
EXPORTS = ("ome-tiff", "dicom-seg", "annotationstore", "parquet")
OBJECT_TYPES = ("annotation", "detection", "tile")
FRAMES = ("qupath", "slide")
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How slides are opened and read.

    Parameters
    ----------
    mpp : float or None
        µm per level-0 px; replaces what the file says. None: the file must say it.
    reader : str
        ``auto`` (the first that takes the file), ``jpeg`` (TIFF and SVS of JPEG tiles), ``openslide`` or
        ``tiatoolbox``.
    workers : int
        Threads that read ahead; 0: as many as suit the cores and the device.
    """

    mpp: float | None = None
    reader: str = "auto"
    workers: int = 0

    def __post_init__(self) -> None:
        require(
            self.mpp is None or 0.01 <= self.mpp <= 100,
            f"mpp is {self.mpp}; microns per pixel lie between 0.01 and 100",
        )
        one_of("reader", self.reader, READERS)
        require(0 <= self.workers <= 256, f"workers is {self.workers}; use 1 to 256, or 0 for automatic")


@dataclass(frozen=True, slots=True)
class TissueSettings:
    """How tissue is told from glass.

    Parameters
    ----------
    mpp : float
        Resolution of the mask, µm per px.
    min_area_mm2 : float
        Smaller pieces of tissue are ignored, mm².
    max_hole_mm2 : float
        Smaller holes in tissue are filled, mm².
    """

    mpp: float = 4.0
    min_area_mm2: float = 0.01
    max_hole_mm2: float = 0.0005

    def __post_init__(self) -> None:
        require(0.5 <= self.mpp <= 64, f"tissue mpp is {self.mpp}; use 0.5 to 64")
        require(self.min_area_mm2 >= 0, f"min_area_mm2 is {self.min_area_mm2}; it cannot be negative")
        require(self.max_hole_mm2 >= 0, f"max_hole_mm2 is {self.max_hole_mm2}; it cannot be negative")


@dataclass(frozen=True, slots=True)
class TilingSettings:
    """How windows cover the tissue.

    Parameters
    ----------
    overlap : float
        Share of a window's side that it shares with its neighbour, 0…0.75.
    """

    overlap: float = 0.125

    def __post_init__(self) -> None:
        require(
            0 <= self.overlap <= 0.75,
            f"overlap is {self.overlap}; use 0 to 0.75 (a share of the window's side)",
        )


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """Where and how the model runs.

    Parameters
    ----------
    model : str
        Name of a built-in model, the path of a bundle, or ``zero-shot``.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision : str
        ``auto`` (bf16 where the GPU or CPU has it; else fp16 on a GPU, fp32 on a CPU), ``fp32``, ``bf16`` or ``fp16``.
    batch_size : int
        Windows a forward pass; 0 chooses by device.
    compile : bool
        Whether torch compiles the model first: a minute once, then faster; needs a C++ compiler.
    encoder : str
        Encoder of ``zero-shot``: ``conch`` or ``open_clip:MODEL[:PRETRAINED|FILE]``.
    prompts : str
        Classes and descriptions of ``zero-shot``: a vocabulary's name or file.
    weights, tokenizer : str
        The user's files of a gated encoder; empty looks in the usual places.
    gate : float or None
        How far the classes that a window seems to hold count in its map, 0 (not at all) to 10; None: as the bundle
        says.
    """

    model: str = "builtin"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 0
    compile: bool = False
    encoder: str = ""
    prompts: str = ""
    weights: str = ""
    tokenizer: str = ""
    gate: float | None = None

    def __post_init__(self) -> None:
        if self.model == ZERO_SHOT:
            require(bool(self.encoder), "zero-shot needs an encoder: --encoder conch, or open_clip:MODEL")
            require(bool(self.prompts), "zero-shot needs prompts: --prompts bcss, or a file of your own classes")
            require(self.gate is None, "gate is for bundles only; a zero-shot model does not say what a window holds")
        else:
            for name in ("encoder", "prompts", "tokenizer"):
                require(not getattr(self, name), f"{name} is for model {ZERO_SHOT} only; a bundle has its own")
        require(
            self.device in ("auto", "cpu", "cuda") or (self.device.startswith("cuda:") and self.device[5:].isdigit()),
            f"device is {self.device!r}; use auto, cpu, cuda or cuda:N",
        )
        one_of("precision", self.precision, PRECISIONS)
        require(self.gate is None or 0 <= self.gate <= 10, f"gate is {self.gate}; use 0 (off) to 10")
        require(
            0 <= self.batch_size <= 4096,
            f"batch_size is {self.batch_size}; use 1 to 4096, or 0 for automatic",
        )


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """How scores become the label map; areas and polygons always follow the map.

    Parameters
    ----------
    unsure_below : float
        A cell whose best probability is below this becomes "unsure", 0…1; 0: every cell gets its best class.
    min_area_um2 : float
        A region smaller than this joins its neighbour, µm²; 0: none does.
    fill_holes_um2 : float
        A hole without a label that is smaller than this joins what is around it, µm²; 0: none does.
    """

    unsure_below: float = 0.0
    min_area_um2: float = 0.0
    fill_holes_um2: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.unsure_below < 1, f"unsure_below is {self.unsure_below}; a probability, 0 to below 1")
        for name in ("min_area_um2", "fill_holes_um2"):
            value = getattr(self, name)
            require(0 <= value <= 1e8, f"{name} is {value}; use 0 to 100000000 (100 mm²)")


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """What is written.

    Parameters
    ----------
    formats : tuple of str
        Polygon files: ``geojson``, ``geojson.gz``.
    object_type : str
        What a feature is in QuPath: ``annotation`` or ``detection``, one a region, or ``tile``, one a grid square.
    square_um : float
        Side of a grid square, µm; rounded to whole cells.
    merge_per_class : bool
        Whether all regions of a class become one feature.
    outline : bool
        Whether one more annotation outlines all that was analysed and carries the slide's measurements.
    simplify_um : float
        How far outlines may leave the cells' edges to have fewer vertices, µm; 0: not at all.
    frame : str
        ``qupath`` (origin where QuPath crops the slide) or ``slide`` (origin of the whole file).
    overlay : bool
        Whether ``overlay.png`` is made.
    confidence : bool
        Whether ``confidence.tif`` is made: the best probability of each cell, in percent.
    exports : tuple of str
        The same results once more for other programs: ``ome-tiff``, ``dicom-seg`` (label map), ``annotationstore``,
        ``parquet`` (regions).
    """

    formats: tuple[str, ...] = ("geojson",)
    object_type: str = "annotation"
    square_um: float = 100.0
    merge_per_class: bool = False
    outline: bool = False
    simplify_um: float = 0.0
    frame: str = "qupath"
    overlay: bool = True
    confidence: bool = False
    exports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.formats), f"formats is empty; choose from {', '.join(FORMATS)}")
        for name, given, known in (("formats", self.formats, FORMATS), ("exports", self.exports, EXPORTS)):
            for one in given:
                one_of(name, one, known)
            require(len(set(given)) == len(given), f"{name} names one twice: {', '.join(given)}")
        one_of("object_type", self.object_type, OBJECT_TYPES)
        require(1 <= self.square_um <= 10_000, f"square_um is {self.square_um}; use 1 to 10000")
        require(0 <= self.simplify_um <= 100, f"simplify_um is {self.simplify_um}; use 0 to 100")
        require(
            not (self.merge_per_class and self.object_type == "tile"),
            "merge_per_class does not go with object_type tile: squares are not merged",
        )
        one_of("frame", self.frame, FRAMES)

    def square_cells(self, cell_um: float) -> int:
        """Return the side of a grid square in cells of `cell_um` µm, 1 or more."""
        return max(1, round(self.square_um / cell_um))


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """All settings of the segment job, a section a step."""

    read: ReadSettings = field(default_factory=ReadSettings)
    tissue: TissueSettings = field(default_factory=TissueSettings)
    tiling: TilingSettings = field(default_factory=TilingSettings)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        require(
            self.features.level == "head" or self.inference.model != ZERO_SHOT,
            "features.level encoder is for bundles only: a zero-shot model keeps its patches, for any descriptions",
        )
        require(
            not (self.features.source and self.inference.compile),
            "compile is for the encoder; with --from-features none is run: leave --compile out",
        )
