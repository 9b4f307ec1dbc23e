"""DICOM files with invented content, for the tests."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def write_dicom(path: Path, pixels: np.ndarray | None, preamble: bool = True, **fields) -> Path:
    """`pixels` [H, W] or [frames, H, W], uint8 or uint16; `fields` by keyword, None leaves one out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = fields.pop("syntax", ExplicitVRLittleEndian)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    values = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA"}
    values |= {"PatientID": "MRN-77", "PatientName": "Example^Anna", "StudyInstanceUID": "1.2.3.77"}
    if pixels is not None:
        bits = 8 * pixels.dtype.itemsize
        values |= {"Rows": pixels.shape[-2], "Columns": pixels.shape[-1], "SamplesPerPixel": 1}
        values |= {"PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
        values |= {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
        if pixels.ndim == 3:
            values["NumberOfFrames"] = len(pixels)
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in (values | fields).items():
        if value is not None:
            setattr(dataset, name, value)
    if preamble:
        dataset.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
    else:
        del dataset.file_meta
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    return path


def ramp(bits: int, height: int = 40, width: int = 64) -> np.ndarray:
    """Grey values from 0 to the highest of `bits`, growing from left to right."""
    values = np.linspace(0, 2**bits - 1, width).round()
    return np.tile(values, (height, 1)).astype(np.uint8 if bits == 8 else np.uint16)
