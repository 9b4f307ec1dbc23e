"""CANDID-PTX: a film with two rows (two masks, one report), -1 and blank for no mask, films with and without ending,
tables of chest tubes and rib fractures (columns in other case), MONOCHROME1; rows that contradict each other, a name
without a patient, an absent film, a film and a mask without a row.
"""

from pathlib import Path

from tests.fake_files import clouds, write_dicom

PREFIX = "1.2.826.0.1.3680043.8.498"
#: Rows 0 to 2 of column 0 and rows 0 to 1 of column 1 of 1024 rows, as gap and length; then rows 8 to 15 of column 8.
RUNS = "0 3 1021 2"
SECOND_RUNS = f"{8 * 1024 + 8} 8"
HEADER = "filename,StudyInstanceUID,SOPInstanceUID,EncodedPixels,Report"
ROWS = (
    f'P12_001,{PREFIX}.1,{PREFIX}.1.1,{RUNS},"Small left pneumothorax.\nHeart normal."',
    f'P12_001,{PREFIX}.1,{PREFIX}.1.1,{SECOND_RUNS},"Small left pneumothorax.\nHeart normal."',
    f"P12_002,{PREFIX}.2,{PREFIX}.2.1,-1,No pneumothorax.",
    f"P13_001,{PREFIX}.3,{PREFIX}.3.1,,Tube in place.",
    f"P14_001,{PREFIX}.4,{PREFIX}.4.1,-1,Clear.",
    f"P14_001,{PREFIX}.4,{PREFIX}.4.1,{RUNS},Not clear.",
    f"X,{PREFIX}.5,{PREFIX}.5.1,-1,Clear.",
    f"P16_001,{PREFIX}.6,{PREFIX}.6.1,-1,Clear.",
)


def build(root: Path) -> Path:
    raw = root / "candid"
    raw.mkdir(parents=True)
    (raw / "Pneumothorax_reports.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    (raw / "chest_tube.csv").write_text(
        f"anon_SOPUID,annotation_ref,mask_rle\n{PREFIX}.3.1,a,{RUNS}\n{PREFIX}.2.1,b,-1\n{PREFIX}.99.1,c,{RUNS}\n"
    )
    (raw / "Rib_fracture_mask_rle.csv").write_text(f"anon_SOPUID,annotation ref,MASK_RLE\n{PREFIX}.1.1,a,{RUNS}\n")
    # Squares, as all films are: the masks' frame of 1024 x 1024 fits them.
    for number, ending in ((1, ""), (2, ".dcm"), (3, ""), (4, ""), (5, ""), (7, "")):
        pixels = clouds((1024, 1024) if number == 1 else (64, 64), seed=number)
        photometric = "MONOCHROME1" if number == 2 else "MONOCHROME2"
        write_dicom(raw / "dataset" / f"{PREFIX}.{number}.1{ending}", pixels, photometric)
    return raw
