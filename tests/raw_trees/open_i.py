"""Open-I: XML files whose FINDINGS or IMPRESSION are empty, reports of 0, 1, 2 and 3 films, the first report's ids
with the number twice, `XXXX`, headings with a trailing space or "No Indexing", a film named twice, a film in no report,
a film that is missing, a broken XML file, one without an id; films as RGB PNG; the Kaggle table of projections.
"""

from pathlib import Path

from tests.fake_files import write_png

#: Number, findings, impression, headings, films.
REPORTS = (
    (
        1,
        "The heart is enlarged. No effusion.",
        "Cardiomegaly since XXXX.",
        ["Cardiomegaly/mild"],
        ["CXR1_1_IM-0001-3001"],
    ),
    (2, "", "Normal chest x-XXXX.", ["normal"], ["CXR2_IM-0652-1001", "CXR2_IM-0652-2001"]),
    (
        3,
        "Calcified granuloma.\n\n     Aorta is tortuous.",
        "",
        ["Calcified Granuloma/lung/base", "Aorta/tortuous", "Technical Quality of Image Unsatisfactory "],
        ["CXR3_IM-1384-1001", "CXR3_IM-1384-2001", "CXR3_IM-1384-0001-0001", "CXR3_IM-1384-1001"],
    ),
    (4, "Lungs are clear.", "No acute disease.", ["No Indexing"], ["CXR4_IM-2050-1001"]),
    (5, "", "", ["normal"], ["CXR5_IM-2117-1003002"]),
    (10, "Clear lungs.", "Normal.", ["normal"], []),
    (11, "Clear lungs.", "Normal.", ["normal"], ["CXR11_IM-0067-1001"]),
)
MISSING = "CXR11_IM-0067-1001"


def xml(number: int, findings: str, impression: str, headings: list[str], images: list[str]) -> str:
    majors = "".join(f"<major>{heading}</major>" for heading in headings)
    films = "".join(f'<parentImage id="{image}"><figureId>F1</figureId></parentImage>' for image in images)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<eCitation>
   <uId id="CXR{number}"/><pmcId id="{number}"/>
   <MedlineCitation><Article><Abstract>
      <AbstractText Label="COMPARISON">None.</AbstractText>
      <AbstractText Label="INDICATION">XXXX-year-old with invented cough.</AbstractText>
      <AbstractText Label="FINDINGS">{findings}</AbstractText>
      <AbstractText Label="IMPRESSION">{impression}</AbstractText>
   </Abstract></Article></MedlineCitation>
   <MeSH>{majors}<automatic>ignored</automatic></MeSH>
   {films}
</eCitation>"""


def build(root: Path) -> Path:
    raw = root / "open_i"
    folder = raw / "ecgen-radiology"
    folder.mkdir(parents=True)
    for number, *content in REPORTS:
        (folder / f"{number}.xml").write_text(xml(number, *content), encoding="utf-8")
    (folder / "20.xml").write_text("<eCitation><uId id='CXR20'/>")
    (folder / "21.xml").write_text("<eCitation></eCitation>")
    images = dict.fromkeys(image for report in REPORTS for image in report[4])
    for seed, image in enumerate([*images, "CXR77_IM-0001-1001"]):
        if image != MISSING:
            write_png(raw / "NLMCXR_png" / f"{image}.png", mode="RGB", seed=seed)
    rows = ["1,1_IM-0001-3001.dcm.png,Lateral", "2,2_IM-0652-1001.dcm.png,Frontal", "2,2_IM-0652-2001.dcm.png,Lateral"]
    (raw / "indiana_projections.csv").write_text("\n".join(["uid,filename,projection", *rows]) + "\n")
    return raw
