"""BIMCV-COVID19: raw 12-bit values in 16-bit PNGs with a sidecar each (windows, a VOI LUT, MONOCHROME1, one damaged,
one missing), views in names (one without), two films of a session, a CT to ignore, a session without a report and one
without a film, concepts printed without commas, the negative sister set beside.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
#: Values 0 to 4095, growing from left to right.
RAMP = np.tile(np.linspace(0, 4095, SIDE).round().astype(np.uint16), (SIDE, 1))
HEADER = "\tPatientID\tReportID\tReport\tMethodLabel\tLabels\tLocalizations\tLabelCUIS"
POSITIVE_ROWS = (
    "0\tsub-S01\tses-E01\tneumoni bilateral .\tRNN\t['COVID 19', 'pneumonia', ' normal']\t[]\t['C5203670' 'C0032285']",
    "1\tsub-S02\tses-E02\tdudos .\tRNN\t['COVID 19 uncertain', 'pneumonia']\t[]\t['C5203671']",
    "2\tsub-S03\tses-E03\t\tRNN\t['normal']\t[]\t['C0205307' '']",
    "3\tsub-S04\tses-E04\tsol tc .\tRNN\t['normal']\t[]\t[]",
)
NEGATIVE_ROWS = ("0\tsub-S05\tses-E05\tnormal .\tRNN\t['normal']\t[]\t['C0205307']",)
OPTIONS = {"absent_min_count": 2}


def sidecar(photometric: str = "MONOCHROME2", window: tuple | None = (2048, 4096), **more) -> dict:
    """DICOM JSON with some tags that must not be copied."""
    header = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "INVENTED^NAME"}]},
        "00280004": {"vr": "CS", "Value": [photometric]},
        "00280101": {"vr": "US", "Value": [12]},
        "00101010": {"vr": "AS", "Value": ["061Y"]},
        "00100040": {"vr": "CS", "Value": ["F"]},
        "00081140": {"vr": "SQ"},
    }
    if window:
        header["00281050"], header["00281051"] = ({"vr": "DS", "Value": [value]} for value in window)
    return header | more


#: Doubles low values and cuts off what is above half of the range.
LUT = {
    "00283010": {
        "vr": "SQ",
        "Value": [
            {
                "00283002": {"vr": "US", "Value": [4096, 0, 12]},
                "00283006": {"vr": "US", "Value": [min(2 * value, 4095) for value in range(4096)]},
            }
        ],
    }
}


def write_film(raw: Path, patient: str, session: str, name: str, header: dict | str | None) -> None:
    path = raw / patient / session / "mod-rx" / f"{patient}_{session}_{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RAMP).save(path)
    if header is not None:
        path.with_suffix(".json").write_text(header if isinstance(header, str) else json.dumps(header))


def build(root: Path) -> Path:
    raw = root / "bimcv"
    positive, negative = raw / "covid19_posi", raw / "covid19_nega"
    for folder, name, rows in (
        (positive, "labels_covid19_posi.tsv", POSITIVE_ROWS),
        (negative, "labels_SARS-cov-2_nega.tsv", NEGATIVE_ROWS),
    ):
        (folder / "derivatives" / "labels").mkdir(parents=True)
        (folder / "derivatives" / "labels" / name).write_text("\n".join([HEADER, *rows]) + "\n")
    write_film(positive, "sub-S01", "ses-E01", "acq-1_run-1_bp-chest_vp-ap_cr", sidecar("MONOCHROME1"))
    write_film(positive, "sub-S01", "ses-E01", "run-2_bp-chest_vp-ll_dx", sidecar(window=(1024, 2048)))
    write_film(positive, "sub-S02", "ses-E02", "run-1_bp-chest_dx", sidecar(window=None, **LUT))
    write_film(positive, "sub-S02", "ses-E02", "run-2_bp-chest_vp-pa_dx", None)
    write_film(positive, "sub-S02", "ses-E02", "run-3_bp-chest_vp-pa_dx", "{not JSON")
    write_film(positive, "sub-S03", "ses-E03", "run-1_bp-chest_vp-pa_cr", sidecar())
    write_film(positive, "sub-S03", "ses-E99", "run-1_bp-chest_vp-pa_cr", sidecar())
    write_film(negative, "sub-S05", "ses-E05", "run-1_bp-chest_vp-pa_cr", sidecar())
    (positive / "sub-S04" / "ses-E04" / "mod-rx").mkdir(parents=True)
    (positive / "sub-S04" / "ses-E04" / "mod-rx" / "sub-S04_ses-E04_run-1_ct.nii.gz").write_bytes(b"volume")
    (positive / "participants.tsv").write_text("participant\tmodality_dicom\tage\tgender\nsub-S01\t['CR']\t[61]\tF\n")
    return raw
