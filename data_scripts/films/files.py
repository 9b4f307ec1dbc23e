"""Film files, opened as the model's processor opens them; what it refuses is a `DataError` here.

The one implementation is in `modeling_chexficient`, which takes seconds to import (torch, transformers): it is imported
when the first file is opened, and not for `--help`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from data_scripts.schema import DataError

#: Those of `modeling_chexficient.image_processing_chexficient_files`, for arguments.
FRAMES = ("first", "middle")
DICOM_SUFFIXES = (".dcm", ".dicom")


def reading() -> ModuleType:
    """`modeling_chexficient.image_processing_chexficient_files`, where it is written what each function does."""
    from modeling_chexficient import image_processing_chexficient_files

    return image_processing_chexficient_files


@contextmanager
def as_data_errors() -> Iterator[None]:
    """Context in which a refusal of a film file becomes a `DataError` of the same words and kind."""
    try:
        yield
    except reading().FilmFileError as error:
        raise DataError(str(error), error.kind) from error


def open_image(path: Path, frame: str | None = None, reduce_to: int | None = None) -> Image.Image:
    with as_data_errors():
        return reading().open_image(path, frame, reduce_to)


def check_there(path: Path) -> None:
    with as_data_errors():
        reading().check_there(path)


def decode_image(path: Path, alone: bool = False) -> Image.Image:
    with as_data_errors():
        return reading().decode_image(path, alone)


def is_dicom(path: Path) -> bool:
    with as_data_errors():
        return reading().is_dicom(path)


def require_pydicom(path: Path) -> Any:
    with as_data_errors():
        return reading().require_pydicom(path)


def read_dataset(path: Path, stop_before_pixels: bool = False) -> Any:
    with as_data_errors():
        return reading().read_dataset(path, stop_before_pixels)


def read_stored(path: Path) -> np.ndarray:
    """The stored values [H, W] or [H, W, 3] of a DICOM file that is a mask, upright; raises as `open_image`."""
    with as_data_errors():
        return reading().read_stored(path)


def to_display(path: Path, dataset, stored: np.ndarray) -> np.ndarray:
    """The film of the file `path` by its stored values [H, W] and its header: uint8 [H, W] with air black.

    Raises:
        DataError: the film is blank or its header damaged; the file is named.
    """
    with as_data_errors():
        return reading().display(path, dataset, stored)
