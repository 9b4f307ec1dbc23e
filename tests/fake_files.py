"""Tiny films for the fake raw trees: random clouds as PNG, and valid DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

SIZE = (48, 40)


def clouds(size: tuple[int, int] = SIZE, bits: int = 8, seed: int = 0) -> np.ndarray:
    """Random clouds [height, width] of so many bits, uint8 or uint16; `size` is (width, height).

    Not noise of single pixels, which `FilmQuality` takes for a broken film.
    """
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.random((6, 5), dtype=np.float32)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse) + 0.02 * chance.random((size[1], size[0]))
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()) * (2**bits - 1)
    return pixels.round().astype(np.uint8 if bits <= 8 else np.uint16)


def write_png(path: Path, size: tuple[int, int] = SIZE, bits: int = 8, mode: str | None = None, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(clouds(size, bits, seed))
    (image if mode is None else image.convert(mode)).save(path, format="PNG")


def write_dicom(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", **elements) -> None:
    """A single-frame film, uncompressed; `elements` are further data elements by keyword, such as PatientSex."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.Modality = "DX"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, photometric, 0
    film.BitsAllocated = 8 * pixels.itemsize
    film.BitsStored = film.BitsAllocated
    film.HighBit = film.BitsStored - 1
    for name, value in elements.items():
        setattr(film, name, value)
    film.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    film.save_as(path, enforce_file_format=True)
