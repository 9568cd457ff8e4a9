"""Every error that this package raises on purpose.

The tree::

    DualProtoError
    ├── SlideError                 one slide cannot be done; the others go on
    │   ├── SlideNotFound          (FileNotFoundError)
    │   ├── SlideUnreadable        (OSError)       not a slide, truncated, corrupt
    │   ├── MissingPixelSize       (ValueError)    the file does not say how large a pixel is
    │   └── FeaturesUnusable       (OSError)       kept features are missing, damaged, or not those asked for
    ├── ModelError
    │   ├── ModelNotFound          (LookupError)   no model, encoder or weights of that name
    │   ├── BundleInvalid          (ValueError)    the file is not a bundle of ours, or a damaged one
    │   └── WeightsMismatch        (ValueError)    keys or shapes differ from what the model needs
    ├── DeviceUnavailable          (RuntimeError)
    ├── WorkerLost             (RuntimeError)  a process that should do slides died before it could
    ├── ClusterError               (RuntimeError)  the cluster asked for is not there, or cannot do slides
    ├── MissingDependency          (ImportError)   an optional package is needed for what was asked
    ├── SettingsError              (ValueError)
    ├── DataError                  (ValueError)    training or evaluation data
    ├── DownloadError              (OSError)
    └── OutputError                (OSError)

A message says what, the value, why, and what to do, on one line::

    a.svs: no pixel size in the file; pass --mpp (microns per pixel)
"""

from __future__ import annotations


class DualProtoError(Exception):
    """Base of all errors raised on purpose; the command line prints its message as one line."""


class SlideError(DualProtoError):
    """One slide cannot be processed."""


class SlideNotFound(SlideError, FileNotFoundError):
    """There is no file at the path given."""


class SlideUnreadable(SlideError, OSError):
    """No reader opens the file, or its pixels cannot be decoded."""


class MissingPixelSize(SlideError, ValueError):
    """The file has no pixel size, and none was given."""


class FeaturesUnusable(SlideError, OSError):
    """Kept features of a slide are missing, damaged, or of another slide, encoder, trunk or tiling."""


class ModelError(DualProtoError):
    """A model cannot be built or loaded."""


class ModelNotFound(ModelError, LookupError):
    """No model, encoder or weights file of that name."""


class BundleInvalid(ModelError, ValueError):
    """The file is not a model bundle, or is damaged."""


class WeightsMismatch(ModelError, ValueError):
    """Weights have keys or shapes other than the model's."""


class DeviceUnavailable(DualProtoError, RuntimeError):
    """The compute device asked for is not there."""


class WorkerLost(DualProtoError, RuntimeError):
    """A process that should do slides died before it was ready."""


class ClusterError(DualProtoError, RuntimeError):
    """The cluster asked for is not there, or its workers cannot do slides."""


class MissingDependency(DualProtoError, ImportError):
    """An optional package is not installed."""


class SettingsError(DualProtoError, ValueError):
    """A setting is unknown or out of range."""


class DataError(DualProtoError, ValueError):
    """Training or evaluation data is not what its layout says."""


class DownloadError(DualProtoError, OSError):
    """A file could not be fetched, or is not the one expected."""


class OutputError(DualProtoError, OSError):
    """A result cannot be written where it was asked for."""
