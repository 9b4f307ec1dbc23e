"""The few technical fields of DICOM headers that may be read.

Films are read by `data_scripts.films.files`, how stored values become greys is written in
`modeling_chexficient/image_processing_chexficient_dicom.py`. Needs the extra `dicom` (pydicom).
"""

from __future__ import annotations

from pathlib import Path

from data_scripts.films.files import read_dataset

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
