"""The few technical fields of DICOM headers that may be read, and DICOM files that are masks.

Films are read by `modeling_chexficient.open_image`, how stored values become greys is written in
`modeling_chexficient/image_processing_chexficient_dicom.py`. Needs the extra `dicom` (pydicom).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modeling_chexficient import image_processing_chexficient_dicom as display
from modeling_chexficient.image_processing_chexficient_files import checked_frame, named, read_dataset

#: What decides whether and as which view a film is taken; of these only the view ever gets into a dataset.
TECHNICAL_FIELDS = (
    *("Modality", "BodyPartExamined", "ViewPosition", "PhotometricInterpretation", "NumberOfFrames"),
    *("ViewCodeSequence", "SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"),
    *("PresentationIntentType", "BurnedInAnnotation", "SOPClassUID"),
)
#: SOP classes of detector data before any processing: digital X-ray, mammography, intra-oral X-ray (PS3.4 B.5).
FOR_PROCESSING = tuple(f"1.2.840.10008.5.1.4.1.1.1.{kind}.1" for kind in (1, 2, 3))
#: Read to group and match films; never written, `data_scripts.loaders.folder` numbers or hashes them.
LINKING_FIELDS = ("PatientID", "StudyInstanceUID", "AccessionNumber")


def read_header(path: Path, fields: tuple[str, ...]) -> dict[str, str]:
    """The named header fields as text, "" where absent; of a sequence of codes "value meaning" of the first.

    Raises:
        DataError: not readable as DICOM, or pydicom is not installed.
    """
    dataset = read_dataset(path, stop_before_pixels=True)
    return {name: _as_text(dataset.get(name, "")) for name in fields}


def _as_text(value) -> str:
    if type(value).__name__ == "Sequence":
        code = value[0] if value else {}
        return f"{code.get('CodeValue') or code.get('LongCodeValue') or ''} {code.get('CodeMeaning') or ''}".strip()
    return str(value or "").strip()


def read_stored(path: Path) -> np.ndarray:
    """The stored values [H, W] or [H, W, 3] of a DICOM file that is a mask, upright; raises as `read_dicom`."""
    dataset = read_dataset(path)
    with named(path):
        return display.decode(dataset, checked_frame(path, dataset, None))


def to_display(path: Path, dataset, stored: np.ndarray) -> np.ndarray:
    """The film of the file `path` by its stored values [H, W] and its header: uint8 [H, W] with air black.

    Raises:
        DataError: the film is blank or its header damaged; the file is named.
    """
    with named(path):
        return display.to_display(dataset, stored)
