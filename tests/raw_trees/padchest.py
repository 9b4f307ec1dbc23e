"""PadChest: 16-bit films in numbered folders and in a flat one; an index column; label lists with leading spaces and
empty items, a missing one, `exclude`, `normal`; "None" for a missing value; MONOCHROME1; a film known to be damaged, a
film that is not there, a film without a row.
"""

import gzip
from pathlib import Path

from tests.fake_files import write_png

HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,ReportID,Report,"
    "MethodLabel,Labels,Localizations,LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS"
)
KNOWN_BAD = "216840111366964012819207061112010307142602253_04-014-084.png"
_END = "\"['loc  left']\",[],['C0000001' 'C0000002' ''],[]"
_MIDDLE = "Manual review of DICOM fields,No,CR,Maker"
ROWS = (
    f"0,11_00-001-001.png,0,20100304,S1,P1,1954.0,F,POSTEROANTERIOR,PA,{_MIDDLE},MONOCHROME2,R1,"
    f"cardiomegali . pinz costofren libr . ,Physician,\"['cardiomegaly', ' pleural effusion', '']\",{_END}",
    f"1,11_00-001-002.png,0,20100304,S1,P1,1954.0,F,LATERAL,L,{_MIDDLE},MONOCHROME1,R1,"
    f"cardiomegali . pinz costofren libr . ,Physician,\"['cardiomegaly', ' pleural effusion', '']\",{_END}",
    f"2,22_clgbhs.png,14,20120101,S2,P2,None,None,None,AP_horizontal,{_MIDDLE},MONOCHROME2,R2,"
    f"sin hallazg . ,RNN_model,['normal'],{_END}",
    f"3,33_clgbhs.png,14,20120101,S3,P3,2010.0,M,,EXCLUDE,{_MIDDLE},MONOCHROME2,R3,"
    f"estudi sin valor . ,RNN_model,\"['exclude', 'suboptimal study']\",{_END}",
    f"4,44_clgbhs.png,14,20120101,S4,P4,1950.0,M,,COSTAL,{_MIDDLE},MONOCHROME2,R4,cost . ,RNN_model,nan,{_END}",
    f"5,{KNOWN_BAD},14,20120101,S5,P5,1950.0,M,,PA,{_MIDDLE},MONOCHROME2,R5,x . ,RNN_model,['normal'],{_END}",
    f"6,66_absent.png,14,20120101,S6,P6,1950.0,M,,PA,{_MIDDLE},MONOCHROME2,R6,x . ,RNN_model,['normal'],{_END}",
    f'7,77_broken.png,14,20120101,S7,P7,1950.0,M,,PA,{_MIDDLE},MONOCHROME2,R7,x . ,RNN_model,"[\'normal",{_END}',
)
OPTIONS = {"absent_min_count": 2}


def build(root: Path) -> Path:
    raw = root / "padchest"
    raw.mkdir(parents=True)
    with gzip.open(raw / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", "wt", encoding="utf-8") as table:
        table.write("\n".join([HEADER, *ROWS]) + "\n")
    for seed, name in enumerate(("0/11_00-001-001.png", "0/11_00-001-002.png", "14/33_clgbhs.png", f"14/{KNOWN_BAD}")):
        write_png(raw / name, bits=16, seed=seed)
    for seed, name in enumerate(("22_clgbhs.png", "44_clgbhs.png", "77_broken.png", "88_no_row.png")):
        write_png(raw / "images" / name, bits=16, seed=10 + seed)
    return raw
