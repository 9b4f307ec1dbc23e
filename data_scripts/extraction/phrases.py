"""What radiologists call the findings, and how they deny, doubt or only mention them: tables, no code.

Notation of a phrase, matched on whole words of a sentence in small letters whose hyphens are spaces: `a|b` either
word, `stem*` any ending, `word?` may be missing, `~` up to five words without a comma, `^` and `$` the sentence's begin
and end. Phrases are our own, written
from reading reports; the names of the findings are those of CheXpert (arXiv 1901.07031) and of the MeSH headings of the
Open-I collection.
"""

from __future__ import annotations

#: A finding and the phrases that name it. A phrase may name several findings.
FINDINGS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        "mediastin*|cardiomediastin* ~ widen*|enlarg*|prominen*",
        "widen*|enlarg*|prominen* ~ mediastin*|cardiomediastin*",
    ),
    "Cardiomegaly": (
        "cardiomegaly",
        "enlarged heart|hearts",
        "heart|cardiac|cardiopericardial|cardiomediastin*|ventric* ~ enlarg*",
        "enlarg* ~ heart|cardiac|cardiopericardial|cardiomediastin*|ventric*",
        "prominent|large heart",
        "cardiac|heart silhouette|size|shadow ~ prominent|large|increased",
        "heart is|appears|remains|looks mildly|moderately|markedly|quite? large|big|prominent",
        "increase* ~ heart|cardiac size",
    ),
    "Lung Lesion": ("nodul*", "mass|masses", "neoplas*", "tumor*|tumour*", "carcinoma*", "malignan*", "metasta*"),
    "Lung Opacity": (
        "opaci*",
        "air space|spaces disease*|process*",
        "airspace|alveolar disease*|process*|infiltrat*",
        "infiltrat*",
        "interstitial|reticular|reticulonodular|lung|bronchial ~ markings|pattern|thickening|prominence|changes",
        "interstitial lung? disease",
        "patchy|retrocardiac|streaky|linear|vague|hazy|basilar|rounded|perihilar|increased|abnormal|prominent densit*",
        "haziness",
        "silhouetting",
    ),
    "Edema": ("edema|oedema", "cephalization", "chf", "heart failure", "fluid|volume overload"),
    "Consolidation": ("consolidat*",),
    "Pneumonia": ("pneumonia*", "bronchopneumonia*", "pneumonitis", "infect*", "bronchiolitis"),
    "Atelectasis": ("atelecta*", "collapse|collapsed ~ lobe|lung|base|bases", "lobar|lung|lobe|volume collapse"),
    "Pneumothorax": ("pneumothora*", "hydropneumothora*"),
    "Pleural Effusion": (
        "effusion|effusions",
        "pleural|subpulmonic fluid",
        "fluid ~ pleural space|spaces|cavity|cavities",
        "hydrothorax",
        "hydropneumothora*",
    ),
    "Pleural Other": (
        "pleural thickening|scar*|plaque*|calcif*|nodul*",
        "apical thickening|cap|capping",
        "pleuroparenchymal scar*",
        "thicken* ~ pleura",
        "fibrothorax",
        "empyema",
    ),
    "Fracture": ("fracture*|fx", "compression deformit*", "wedge* deformit*", "deformit* ~ rib|ribs|vertebra*|clavic*"),
    "Support Devices": (
        "catheter*|picc|port|portacath|mediport|pacemaker*|pacer*|icd|aicd|defibrillator*|stimulator*|electrode*",
        "central|venous|picc|midline|art*|subclavian|jugular|ij line|lines",
        "endotracheal|tracheostomy|nasogastric|orogastric|enteric|feeding|ng|og|et|chest|drainage|dobhoff tube|tubes",
        "dobbhoff|dht|ett|ngt",
        "tracheostomy|gastrostomy|thoracostomy",
        "lead|leads|generator",
        "stent*|drain|drains|pigtail|swan|shunt|valve|valves|prosthe*|hardware|clip|clips|suture*|staple*|device*",
        "sternal wires|wire|sutures",
        "implanted|impella|balloon pump",
        "tip|tips|terminat* ~ cavoatrial|svc|carina|stomach|atrium|ventricle|cava",
    ),
    # Beyond CheXpert.
    "Nodule": ("nodul*",),
    "Mass": ("mass|masses",),
    "Infiltration": ("infiltrat*",),
    "Airspace Disease": (
        "air space|spaces disease*|process*",
        "airspace|alveolar disease*|process*|infiltrat*",
    ),
    "Blunted Costophrenic Angle": ("blunt* ~ costophrenic|cp|sulcus|sulci", "costophrenic|cp|sulcus|sulci ~ blunt*"),
    "Emphysema": ("emphysem*", "bulla|bullae|bullous|bleb*"),
    "COPD": ("copd", "chronic obstructive", "obstructive lung|pulmonary|airway* disease"),
    "Hyperinflation": (
        "hyperinflat*|hyperexpan*|hyperaerat*|hyperdisten*|overinflat*|overexpan*|hyperlucen*",
        "flatten* ~ diaphragm*|hemidiaphragm*",
        "diaphragm*|hemidiaphragm* ~ flatten*",
    ),
    "Hypoinflation": (
        "hypoinflat*|hypoaerat*|hypoventil*|underinflat*",
        "low|small|decreased|shallow lung? volume*|inspir*",
        "lung? volumes ~ low|decreased|diminished",
        "poor inspir*",
        "diminished|reduced lung volume*",
    ),
    "Fibrosis": ("fibros*|fibrotic",),
    "Scarring": ("scar|scars|scarring|cicatri*",),
    "Pleural Thickening": ("pleural|apical|pleuroparenchymal thickening", "thicken* ~ pleura"),
    "Granulomatous Disease": ("granulom*", "histoplasmosis"),
    "Calcification": ("calcif*", "calcinosis"),
    "Atherosclerosis": (
        "atheroscle*|arterioscle*|atheroma*",
        "calcif* ~ aort*|arch|vascular",
        "aort*|arch|vascular ~ calcif*",
    ),
    "Tortuous Aorta": (
        "tortuo*|ectasia|ectatic|uncoil*|unfold*|elongat* ~ aort*",
        "aort* ~ tortuo*|ectasia|ectatic|uncoil*|unfold*|dilat*|elongat*",
    ),
    "Degenerative Change": (
        "degenerative",
        "spondyl*",
        "osteophyt*",
        "endplate change*|irregular*|sclerosis",
        "spurring|spurs",
        "arthrit*|osteoarthr*|arthropathy|dish",
        "disc|disk space? narrowing|disease",
    ),
    "Scoliosis": ("scolio*|dextroscolio*|levoscolio*|dextrocurvature|levocurvature", "curvature ~ spine"),
    "Kyphosis": ("kyphosis|kyphotic|kyphoscolio*",),
    "Osteopenia": ("osteopen*|osteoporo*|demineraliz*|demineralis*",),
    "Hiatal Hernia": ("hiatal|hiatus|paraesophageal hernia*",),
    "Elevated Diaphragm": (
        "elevat* ~ diaphragm*|hemidiaphragm*",
        "diaphragm*|hemidiaphragm* ~ elevat*",
        "eventration",
    ),
    "Pulmonary Congestion": (
        "congest*",
        "vascular|vascularity|vessel*|vasculature ~ prominen*|engorge*|increased",
        "prominen*|engorge*|increased ~ vascularity|vessel*|vasculature",
    ),
    "Lymphadenopathy": ("adenopathy|lymphadenopathy", "enlarged lymph? node*", "lymph node* enlarge*"),
    "Pericardial Effusion": ("pericardial effusion*|fluid",),
    "Tuberculosis": ("tubercul*", "tb"),
}

#: Neither normal nor the finding: both are possible.
BORDERLINE: dict[str, str] = {
    "heart|cardiac ~ borderline": "Cardiomegaly",
    "borderline|mild ~ heart|cardiac size|silhouette|enlarg*": "Cardiomegaly",
    "upper limits of normal or|to mildly|slightly|borderline|minimally? enlarged": "Cardiomegaly",
}

#: What is abnormal and none of the findings above: a report that asserts one of these is not one of "No Finding". They
#: are groups of phrases rather than findings: good enough to tell what is rare, not to label films by.
OTHER_ABNORMALITIES: dict[str, tuple[str, ...]] = {
    "Free Air": (
        "free|intraperitoneal|subdiaphragmatic|extraluminal ~ air|gas",
        "air|gas under|beneath|below ~ diaphragm*|hemidiaphragm*",
        "pneumoperitone*|pneumoretroperitone*",
    ),
    "Pneumomediastinum": ("pneumomediastin*|pneumopericard*",),
    "Subcutaneous Emphysema": ("subcutaneous|soft ~ emphysema|air|gas",),
    "Situs Anomaly": ("dextrocardia|dextroposition|levocardia|situs|heterotaxy",),
    "Cavity or Cyst": ("cavit*|abscess*|cyst|cysts|cystic|honeycomb*|pneumatocele*", "air fluid level*"),
    "Airway Disease": (
        "bronchiecta*|bronchitis|bronchiolectasis",
        "peribronchial|bronchial ~ cuffing|thickening",
    ),
    "Volume Loss": ("volume loss", "loss of volume"),
    "Aortic Disease": ("aneurysm*|dissection|pseudoaneurysm*|coarctation",),
    "Displacement": ("dislocat*|subluxat*|luxat*|displaced|displacement|deviat*|rotator",),
    "Hernia": ("herniat*|hernia*",),
    "Lesion": ("lytic|blastic|sclerotic|erosi*|destruct*|lesion|lesions|lucen*",),
    "Foreign Body": ("foreign bod*", "bullet*|shrapnel|ingested|retained"),
    "Enlarged Organ": ("goiter|thyromegaly|hepatomegaly|splenomegaly|organomegaly|hepatosplenomegaly|ascites",),
    "Distension": ("dilat*|distend*|distention|distension|obstruct*|ileus",),
    "Deformity": (
        "cervical|absent|missing|bifid rib*",
        "pectus|deformit*|malformation*|anomal*|agenesis|hypoplas*",
    ),
    "Haemorrhage or Embolism": ("hemorrhage|contusion*|laceration*|infarct*|embol*|hematoma*",),
    "Sarcoidosis or Dust Disease": ("sarcoid*|pneumoconio*|silico*|asbesto*",),
    "Other Change": (
        "elevat*|enlarg*|widen*|blunt*|thicken*|asymmetr*|abnormal|abnormality|abnormalities|malposition*",
    ),
    "Surgery": (
        "postsurgical|postoperative|mastectomy|lobectomy|pneumonectomy|resection|resected",
        "post surgical|operative",
    ),
}

#: Phrases that look like a finding but are none; they are blotted out first.
NO_FINDINGS_AT_ALL = (
    "heart failure|disease history",
    "upper lobe predominance",
    "cardiopulmonary|cardio device",
    "soft tissue densit*",
    "bone densit*",
    "leading",
    "mass effect",
    "port* projection|view|film|technique|exam*",
    "body mass",
    "single|two|frontal|ap|pa|lateral view*",
)

#: A finding named by phrases of another is not meant where these stand.
EXCEPTIONS: dict[str, tuple[str, ...]] = {
    "Pleural Effusion": ("pericardial effusion*|fluid",),
    "Emphysema": ("subcutaneous|soft emphysem*",),
    "Lung Opacity": ("calcified opaci*",),
    "Lung Lesion": ("calcified nodul*", "nodul* calcif*", "nodular opaci*|densit*|infiltrat*"),
    "Nodule": ("nodular opaci*|densit*|infiltrat*",),
    "Pneumonia": ("granulomatous infect*", "infect* ~ granulom*", "old|prior|remote|chronic ~ infect*"),
    "Edema": ("soft tissue edema",),
    "Support Devices": ("chest tube* ~ removed",),
    "Fracture": (
        "screw|screws|wire|wires|hardware|lead|leads|rod|rods|plate|plates|catheter*|clip|clips|sutures ~ fracture*",
        "fracture* ~ screw|screws|wire|wires|hardware|lead|leads|rod|rods|catheter*|clip|clips|sutures",
    ),
}

#: Statements that all is well, and what they say is absent.
NORMAL: dict[str, tuple[str, ...]] = {
    "heart|cardiac|cardiopericardial ~ normal|unremarkable": ("Cardiomegaly",),
    "normal|unremarkable ~ heart|cardiac|cardiopericardial": ("Cardiomegaly",),
    "cardiomediastin* ~ normal|unremarkable": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    "normal|unremarkable ~ cardiomediastin*": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    "mediastin* ~ normal|unremarkable": ("Enlarged Cardiomediastinum",),
    "normal|unremarkable ~ mediastin*": ("Enlarged Cardiomediastinum",),
    "lungs|lung ~ clear": ("Lung Opacity", "Consolidation"),
    "clear lungs|lung": ("Lung Opacity", "Consolidation"),
    "costophrenic|cp|sulci ~ clear|sharp": ("Pleural Effusion",),
    "pleural spaces ~ clear": ("Pleural Effusion",),
    "vascularity|vasculature ~ normal|unremarkable": ("Edema", "Pulmonary Congestion"),
    "normal|unremarkable ~ vascularity|vasculature": ("Edema", "Pulmonary Congestion"),
    "osseous|bony|skeletal|bones|ribs|skeleton ~ intact|unremarkable|normal": ("Fracture",),
}

#: Statements about the film as a whole.
ALL_IS_WELL = (
    "normal|unremarkable|negative chest|film|study|exam*|radiograph*",
    "chest|film|study|exam*|radiograph* ~ normal|unremarkable|negative|clear",
    "no|without ~ disease|abnormalit*|process*|finding*|patholog*",
    "nothing acute",
    "^ normal|unremarkable|negative $",
    "within normal limits",
)
NOT_WELL = ("not|never|than ~ normal|unremarkable|negative|clear|within",)

#: Look like a denial and are none: the finding after them is as it was.
_MODIFIER = (
    "significant|significantly|substantial|substantially|appreciable|appreciably|definite|relevant|major|obvious|interval"
    "|great|greatly|much|further|evidence|of|been|yet|completely|entirely|fully?"
)
_SEEN = "seen|present|visible|visualized|identified|evident|noted|appreciated|there|demonstrated|observed"
_BEFORE = "prior|previous|earlier|last|old|comparison|former"
NOT_DENIALS = (
    f"no|not|without {_MODIFIER} {_MODIFIER} change|changes|changed|difference|increase|increased|decrease|decreased"
    "|progression|progressed|worsening|worsened|improvement|improved",
    f"not {_MODIFIER} {_MODIFIER} resolved|cleared",
    "not only|necessarily",
    "no longer small|tiny|trace|minimal|mild|moderate",
    "no prior|previous|comparison*|priors|doubt",
    # A time is no denial: it was not there before.
    f"not|never|without ~ {_SEEN} on|in|at|during the|her|his|their|any|most? recent|immediate|last? {_BEFORE}",
    f"not|never ~ {_SEEN} previously|before|earlier",
)
#: The findings after these words are absent ...
DENIED_AFTER = (
    "no|not|without|nor|neither|never",
    "negative|free for|of|from",
    "absence|lack of?",
    "absent of",
    "^ absent",
    "resolution|disappearance of",
    "interval|complete clearing of?",
    "removal of",
    "clear of",
    "rather than",
    "ruled|rules out",
    "^ resolved|cleared",
)
#: ... and so are the findings before these.
DENIED_BEFORE = (
    "not|never ~ seen|identified|visualized|visible|evident|present|demonstrated|appreciated|noted|observed|detected"
    "|apparent|found|suspected|shown",
    "no longer",
    "has|have|had since|now|completely|nearly|largely|essentially|subsequently? resolved|cleared|disappeared",
    "is|are|was|were now|since? resolved|absent|cleared|removed",
    "has|have|had since? been removed",
    "unlikely|none",
    ": no|none|nil|absent|negative $",
    "within normal limits",
    "within limits of normal",
)
#: The findings after these words are uncertain ...
DOUBTED_AFTER = (
    "possibl*|potential*|questionable|question|questioned|equivocal|presumed|apparent",
    "may|might|could",
    "cannot|not ~ exclude|excluded",
    "suspected|suspect|suspicio*",
    "concern*|worrisome for|of",
    "suggest*",
    "versus|vs|either",
    "less likely",
    "differential",
    "borderline",
    "indeterminate",
)
#: ... and so are the findings before these.
DOUBTED_BEFORE = (
    "cannot|not|difficult ~ excluded|exclude|ruled|rule",
    "is|are|was|were also|still? possible|suspected|questioned|questionable|considered",
    "in|on the differential",
    "is|are|was|were|remains|would ~ differential",
    "upper limits",
    "versus|vs",
)
#: What stands after these words is asked or remembered, not seen.
NOT_JUDGED_AFTER = (
    "evaluate|evaluation|assess|assessment|rule|exclude|looking ~ for|out",
    "history|hx of",
    "correlat*|correlation ~ for",
    "to exclude",
    "if",
)
#: A denial or doubt ends here ...
SCOPE_ENDS = (
    "but|however|although|though|except|which|while|whereas|yet|because",
    "aside|apart from",
    "other than",
    "exception of",
    "there is|are",
    "with|and a|the|stable|unchanged|mild|mildly|moderate|minimal|small|persistent|residual|underlying|continued",
    "with|and new|large|tiny|trace|increased|increasing|worsening|worsened|progressive|developing",
    "with left|right|bilateral",
)
#: ... a doubt also at a denial,
DOUBT_ENDS = ("without|no",)
#: ... a denial also here, while a doubt goes on ("may be due to"),
DENIAL_ENDS = ("secondary|due|related to",)
#: ... and both at a comma before one of these words.
SCOPE_ENDS_AFTER_COMMA = (
    "a|an|the|there|only|just|with|mild|mildly|moderate|moderately|severe|stable|unchanged|persistent|minimal|minimally|scattered|heart"
    "|lungs|degenerative|likely|probably|possible|possibly|questionable|may|suspected|compatible|consistent|again|status",
)
