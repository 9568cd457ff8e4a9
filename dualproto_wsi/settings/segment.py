"""Settings of the segment job, a section a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from dualproto_wsi.settings.checks import one_of, require

READERS = ("auto", "openslide", "tiatoolbox")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FORMATS = ("geojson", "geojson.gz")
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
        ``auto`` (OpenSlide where it opens the file, else TIAToolbox), ``openslide`` or ``tiatoolbox``.
    workers : int
        Threads that read ahead.
    """

    mpp: float | None = None
    reader: str = "auto"
    workers: int = 2

    def __post_init__(self) -> None:
        require(
            self.mpp is None or 0.01 <= self.mpp <= 100,
            f"mpp is {self.mpp}; microns per pixel lie between 0.01 and 100",
        )
        one_of("reader", self.reader, READERS)
        require(1 <= self.workers <= 256, f"workers is {self.workers}; use 1 to 256")


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

    overlap: float = 0.25

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
        ``auto`` (bf16 on a GPU that has it, else fp16; fp32 on a CPU), ``fp32``, ``bf16`` or ``fp16``.
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

    def __post_init__(self) -> None:
        if self.model == ZERO_SHOT:
            require(bool(self.encoder), "zero-shot needs an encoder: --encoder conch, or open_clip:MODEL")
            require(bool(self.prompts), "zero-shot needs prompts: --prompts bcss, or a file of your own classes")
        else:
            for name in ("encoder", "prompts", "tokenizer"):
                require(not getattr(self, name), f"{name} is for model {ZERO_SHOT} only; a bundle has its own")
        require(
            self.device in ("auto", "cpu", "cuda") or (self.device.startswith("cuda:") and self.device[5:].isdigit()),
            f"device is {self.device!r}; use auto, cpu, cuda or cuda:N",
        )
        one_of("precision", self.precision, PRECISIONS)
        require(
            0 <= self.batch_size <= 4096,
            f"batch_size is {self.batch_size}; use 1 to 4096, or 0 for automatic",
        )


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """What is written.

    Parameters
    ----------
    formats : tuple of str
        Polygon files: ``geojson``, ``geojson.gz``.
    object_type : str
        QuPath's object type of each region.
    frame : str
        ``qupath`` (origin where QuPath crops the slide) or ``slide`` (origin of the whole file).
    overlay : bool
        Whether ``overlay.png`` is made.
    """

    formats: tuple[str, ...] = ("geojson",)
    object_type: str = "annotation"
    frame: str = "qupath"
    overlay: bool = True

    def __post_init__(self) -> None:
        require(bool(self.formats), f"formats is empty; choose from {', '.join(FORMATS)}")
        for name in self.formats:
            one_of("formats", name, FORMATS)
        require(len(set(self.formats)) == len(self.formats), f"formats names one twice: {', '.join(self.formats)}")
        one_of("object_type", self.object_type, OBJECT_TYPES)
        one_of("frame", self.frame, FRAMES)


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """All settings of the segment job, a section a step."""

    read: ReadSettings = field(default_factory=ReadSettings)
    tissue: TissueSettings = field(default_factory=TissueSettings)
    tiling: TilingSettings = field(default_factory=TilingSettings)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
