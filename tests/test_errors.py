from __future__ import annotations

import inspect

from dualproto_wsi import errors


def test_every_error_is_a_dualproto_error_and_in_the_drawing():
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
    assert len(classes) > 10
    for cls in classes:
        assert issubclass(cls, errors.DualProtoError)
        assert cls.__name__ in errors.__doc__


def test_errors_are_the_fitting_builtin_too():
    assert issubclass(errors.SlideNotFound, FileNotFoundError)
    assert issubclass(errors.MissingPixelSize, ValueError)
    assert issubclass(errors.OutputError, OSError)
