"""The sentences of the reports, by label.

Placeholders: {side}; {a} is "a " or, for both sides, nothing; {s} and {is_} follow it; {grade} is one of the
label's own words for its severity; {zone} is the height in the lung. About half name the label itself.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrases:
    """How a label is told: in the findings section, in the impression, and when it is absent."""

    findings: tuple[str, ...]
    impression: tuple[str, ...]
    absent: tuple[str, ...]
    grades: tuple[str, str, str] = ("mild", "moderate", "severe")


PHRASES = {
    "Cardiomegaly": Phrases(
        (
            "There is {grade} cardiomegaly.",
            "{grade} cardiomegaly is present.",
            "The cardiac silhouette shows {grade} cardiomegaly.",
            "The heart is {grade}ly enlarged.",
            "{grade} enlargement of the cardiac silhouette.",
        ),
        ("Cardiomegaly.", "{grade} cardiomegaly.", "Enlarged heart."),
        ("No cardiomegaly.", "There is no cardiomegaly.", "The heart is not enlarged."),
        ("mild", "moderate", "marked"),
    ),
    "Pleural Effusion": Phrases(
        (
            "There {is_} {a}{grade} {side} pleural effusion{s}.",
            "{grade} {side} pleural effusion{s}.",
            "{a}{grade} {side} pleural effusion{s} {is_} seen.",
            "{grade} {side} effusion{s} blunting the costophrenic angle{s}.",
            "{side} pleural fluid, {grade} in amount.",
        ),
        (
            "{grade} {side} pleural effusion{s}.",
            "Pleural effusion.",
            "{side} pleural effusion{s}.",
            "{grade} {side} effusion{s}.",
        ),
        ("No pleural effusion.", "There is no pleural effusion.", "No effusion.", "No pleural fluid."),
        ("small", "moderate", "large"),
    ),
    "Atelectasis": Phrases(
        (
            "{grade} atelectasis at the {side} {zone}.",
            "There is {grade} {side} {zone} atelectasis.",
            "Linear opacities at the {side} {zone}, consistent with {grade} atelectasis.",
            "{grade} {side} {zone} volume loss with bands of collapse.",
            "Plate-like {side} {zone} collapse, {grade}.",
        ),
        ("Atelectasis.", "{side} {zone} atelectasis.", "{grade} {side} atelectasis.", "{side} {zone} volume loss."),
        ("No atelectasis.", "There is no atelectasis.", "No plate-like collapse."),
        ("minor", "moderate", "marked"),
    ),
    "Consolidation": Phrases(
        (
            "There is {a}{grade} consolidation in the {side} {zone} zone.",
            "{grade} {side} {zone} zone consolidation.",
            "Consolidation with air bronchograms in the {side} {zone} lung, {grade}.",
            "{grade} airspace opacity in the {side} {zone} zone.",
            "{grade} {side} {zone} infiltrate with air bronchograms.",
        ),
        (
            "Consolidation.",
            "{side} {zone} zone consolidation.",
            "{side} consolidation, likely pneumonia.",
            "{side} {zone} zone pneumonia.",
        ),
        ("No consolidation.", "There is no consolidation.", "No focal consolidation.", "No pneumonia."),
        ("small", "moderate", "large"),
    ),
    "Edema": Phrases(
        (
            "There is {grade} pulmonary edema.",
            "{grade} perihilar edema with septal lines.",
            "{grade} interstitial and alveolar edema.",
            "{grade} bilateral perihilar haze with Kerley lines.",
            "{grade} vascular congestion with perihilar opacities.",
        ),
        ("Edema.", "{grade} pulmonary edema.", "Pulmonary edema.", "{grade} congestion."),
        ("No edema.", "There is no pulmonary edema.", "No vascular congestion."),
    ),
    "Nodule": Phrases(
        (
            "There is {a}{grade} nodule in the {side} {zone} zone.",
            "{grade} {side} {zone} lung nodule.",
            "A {side} {zone} zone pulmonary nodule, {grade}.",
            "{grade} round opacity in the {side} {zone} zone.",
            "{grade} coin lesion in the {side} {zone} lung.",
        ),
        ("Nodule.", "{side} {zone} zone nodule.", "{grade} {side} lung nodule.", "{side} coin lesion, CT advised."),
        ("No nodule.", "There is no nodule.", "No lung nodule."),
        ("tiny", "small", "prominent"),
    ),
    "Pneumothorax": Phrases(
        (
            "There is {a}{grade} {side} pneumothorax.",
            "{grade} {side} pneumothorax.",
            "{side} pneumothorax, {grade}, with a visible pleural line.",
            "{grade} {side} pleural air collection without lung markings.",
            "The {side} lung is partly collapsed by {a}{grade} rim of pleural air.",
        ),
        ("Pneumothorax.", "{grade} {side} pneumothorax.", "{side} pneumothorax.", "{side} pleural air."),
        ("No pneumothorax.", "There is no pneumothorax.", "No pneumothorax is seen."),
        ("small", "moderate", "large"),
    ),
    "Emphysema": Phrases(
        (
            "There is {grade} emphysema.",
            "{grade} emphysema with flattened diaphragms.",
            "Hyperinflated lungs, {grade} emphysema.",
            "The lungs are {grade}ly hyperinflated with flat diaphragms.",
            "{grade} hyperlucency and sparse lung markings.",
        ),
        ("Emphysema.", "{grade} emphysema.", "{grade} hyperinflation."),
        ("No emphysema.", "There is no emphysema.", "No hyperinflation."),
    ),
    "Mass": Phrases(
        (
            "There is {a}{grade} mass in the {side} {zone} zone.",
            "{grade} {side} {zone} zone mass.",
            "A {side} {zone} lung mass with spiculated margin, {grade}.",
            "{grade} lobulated lesion in the {side} {zone} lung.",
            "{grade} {side} {zone} zone tumor is suspected.",
        ),
        (
            "Mass.",
            "{side} {zone} zone mass.",
            "{grade} {side} lung mass, suspicious for malignancy.",
            "{side} lung tumor.",
        ),
        ("No mass.", "There is no mass.", "No lung mass."),
        ("small", "sizable", "large"),
    ),
    "Fibrosis": Phrases(
        (
            "There is {grade} pulmonary fibrosis.",
            "{grade} basal fibrosis.",
            "Reticular pattern of {grade} fibrosis.",
            "{grade} coarse reticular opacities at both bases.",
            "{grade} interstitial scarring with a basal predominance.",
        ),
        ("Fibrosis.", "{grade} fibrosis.", "Pulmonary fibrosis.", "{grade} interstitial lung disease."),
        ("No fibrosis.", "There is no fibrosis.", "No interstitial scarring."),
    ),
    "Pleural Thickening": Phrases(
        (
            "There is {grade} {side} pleural thickening.",
            "{grade} pleural thickening on the {side}.",
            "{side} pleural thickening, {grade}.",
            "{grade} {side} pleural rind.",
            "{grade} {side} pleural scarring.",
        ),
        ("Pleural thickening.", "{side} pleural thickening.", "{side} pleural scarring."),
        ("No pleural thickening.", "There is no pleural thickening."),
    ),
    "Aortic Enlargement": Phrases(
        (
            "There is {grade} aortic enlargement.",
            "{grade} aortic enlargement with a prominent knob.",
            "{grade} enlargement of the aorta.",
            "The aorta is {grade}ly dilated.",
            "The aortic knob is {grade}ly widened.",
        ),
        ("Aortic enlargement.", "{grade} aortic enlargement.", "Dilated aorta."),
        ("No aortic enlargement.", "There is no aortic enlargement.", "The aorta is of normal width."),
        ("mild", "moderate", "marked"),
    ),
    "Scoliosis": Phrases(
        (
            "There is {grade} scoliosis.",
            "{grade} thoracic scoliosis.",
            "{grade} scoliosis of the thoracic spine.",
            "{grade} lateral curvature of the spine.",
            "The spine is {grade}ly curved.",
        ),
        ("Scoliosis.", "{grade} scoliosis.", "Curved spine."),
        ("No scoliosis.", "There is no scoliosis.", "The spine is straight."),
    ),
    "Rib Fracture": Phrases(
        (
            "There is {a}{side} rib fracture.",
            "Displaced {side} rib fracture.",
            "{side} rib fracture with a step in the cortex.",
            "Broken {side} rib with displacement.",
            "{side} posterior rib discontinuity.",
        ),
        ("Rib fracture.", "{side} rib fracture.", "Broken {side} rib."),
        ("No rib fracture.", "There is no rib fracture.", "The ribs are intact."),
    ),
    "Elevated Diaphragm": Phrases(
        (
            "There is {a}{grade}ly elevated diaphragm on the {side}.",
            "{grade}ly elevated diaphragm, {side}.",
            "{side} elevated diaphragm.",
            "The {side} hemidiaphragm is {grade}ly raised.",
            "{grade} elevation of the {side} hemidiaphragm.",
        ),
        ("Elevated diaphragm.", "{side} elevated diaphragm.", "Raised {side} hemidiaphragm."),
        ("No elevated diaphragm.", "There is no elevated diaphragm."),
        ("mild", "moderate", "marked"),
    ),
    "Hiatal Hernia": Phrases(
        (
            "There is {a}{grade} hiatal hernia.",
            "{grade} hiatal hernia.",
            "Retrocardiac hiatal hernia with an air-fluid level.",
            "{grade} round retrocardiac shadow with an air-fluid level.",
            "Part of the stomach lies behind the heart.",
        ),
        ("Hiatal hernia.", "{grade} hiatal hernia.", "Intrathoracic stomach."),
        ("No hiatal hernia.", "There is no hiatal hernia."),
        ("small", "moderate", "large"),
    ),
    "Hilar Enlargement": Phrases(
        (
            "There is bilateral hilar enlargement.",
            "Lobulated hilar enlargement on both sides.",
            "Hilar enlargement suggesting enlarged nodes.",
            "Both hila are bulky.",
            "Bilateral hilar adenopathy.",
        ),
        ("Hilar enlargement.", "Bilateral hilar enlargement.", "Hilar adenopathy."),
        ("No hilar enlargement.", "There is no hilar enlargement.", "The hila are normal."),
    ),
    "Cavity": Phrases(
        (
            "There is a thick-walled cavity in the {side} {zone} zone.",
            "{side} {zone} zone cavity.",
            "Cavity in the {side} {zone} lung.",
            "{side} {zone} cavitating lesion.",
            "Ring-shaped {side} {zone} zone lesion with a lucent center.",
        ),
        ("Cavity.", "{side} {zone} zone cavity.", "{side} cavitating lesion."),
        ("No cavity.", "There is no cavity.", "No cavitating lesion."),
    ),
    "Miliary Pattern": Phrases(
        (
            "There is a miliary pattern in both lungs.",
            "Diffuse miliary pattern.",
            "Miliary pattern of tiny opacities.",
            "Innumerable tiny grains throughout both lungs.",
            "Widespread millet-sized opacities.",
        ),
        ("Miliary pattern.", "Miliary pattern, exclude tuberculosis.", "Disseminated millet-sized opacities."),
        ("No miliary pattern.", "There is no miliary pattern."),
    ),
    "Pneumoperitoneum": Phrases(
        (
            "There is {grade} pneumoperitoneum.",
            "{grade} pneumoperitoneum.",
            "Pneumoperitoneum, {grade} in amount.",
            "Free air below the diaphragm, {grade} in amount.",
            "{grade} subdiaphragmatic free gas.",
        ),
        ("Pneumoperitoneum.", "{grade} pneumoperitoneum.", "Free abdominal air."),
        ("No pneumoperitoneum.", "There is no pneumoperitoneum.", "No free air below the diaphragm."),
        ("small", "moderate", "large"),
    ),
    "Pneumomediastinum": Phrases(
        (
            "There is a pneumomediastinum.",
            "Pneumomediastinum is present.",
            "Pneumomediastinum outlining the heart.",
            "Mediastinal air extends into the neck.",
            "Streaks of air outline the mediastinum.",
        ),
        ("Pneumomediastinum.", "Mediastinal air."),
        ("No pneumomediastinum.", "There is no pneumomediastinum.", "No mediastinal air."),
    ),
    "Dextrocardia": Phrases(
        (
            "There is dextrocardia.",
            "Dextrocardia.",
            "Dextrocardia with the apex to the right.",
            "The cardiac apex points to the right.",
            "The heart lies in the right chest.",
        ),
        ("Dextrocardia.", "Right-sided heart."),
        ("No dextrocardia.", "There is no dextrocardia.", "The cardiac apex is on the left."),
    ),
    "Central Venous Catheter": Phrases(
        (
            "{side} central venous catheter with tip in the superior vena cava.",
            "Central venous catheter from the {side}, tip in the vena cava.",
            "There is a {side} central venous catheter.",
            "{side} central line ends in the superior vena cava.",
        ),
        ("Central venous catheter.", "Central venous catheter in place."),
        ("No central venous catheter.", "There is no central venous catheter.", "No central line."),
    ),
    "Nasogastric Tube": Phrases(
        (
            "Nasogastric tube with tip in the stomach.",
            "The nasogastric tube passes below the diaphragm.",
            "There is a nasogastric tube.",
            "Feeding tube ends in the stomach.",
        ),
        ("Nasogastric tube.", "Nasogastric tube in place."),
        ("No nasogastric tube.", "There is no nasogastric tube.", "No feeding tube."),
    ),
    "Endotracheal Tube": Phrases(
        (
            "Endotracheal tube with tip above the carina.",
            "The endotracheal tube ends in the mid trachea.",
            "There is an endotracheal tube.",
            "The patient is intubated, tip above the carina.",
        ),
        ("Endotracheal tube.", "Endotracheal tube in place."),
        ("No endotracheal tube.", "There is no endotracheal tube."),
    ),
    "Pacemaker": Phrases(
        (
            "{side} chest pacemaker with leads to the heart.",
            "There is a {side} pacemaker.",
            "Pacemaker on the {side}.",
            "{side} pectoral pulse generator with intact leads.",
        ),
        ("Pacemaker.", "{side} pacemaker.", "Pacemaker in place."),
        ("No pacemaker.", "There is no pacemaker.", "No cardiac device."),
    ),
    "Chest Tube": Phrases(
        (
            "{side} chest tube in the pleural space.",
            "There is a {side} chest tube.",
            "Chest tube on the {side}, tip near the apex.",
            "{side} pleural drain, tip directed upwards.",
        ),
        ("Chest tube.", "{side} chest tube in place."),
        ("No chest tube.", "There is no chest tube.", "No pleural drain."),
    ),
}

#: Tubes that lie wrong, by where they end (`findings.WRONG_PLACEMENTS`): told in place of the sentences above.
MISPLACED = {
    "right bronchus": Phrases(
        (
            "Endotracheal tube with tip in the right main bronchus.",
            "The endotracheal tube is too deep, in the right main bronchus.",
            "Malpositioned endotracheal tube, tip beyond the carina.",
            "Right main bronchus intubation, the tube should be withdrawn.",
        ),
        ("Endotracheal tube too deep.", "Right main bronchus intubation.", "Malpositioned endotracheal tube."),
        (),
    ),
    "too high": Phrases(
        (
            "Endotracheal tube with tip above the clavicles, too high.",
            "The endotracheal tube ends at the thoracic inlet, too high.",
            "Malpositioned endotracheal tube, tip in the neck.",
            "The patient is intubated, the tube should be advanced.",
        ),
        ("Endotracheal tube too high.", "High endotracheal tube, advance.", "Malpositioned endotracheal tube."),
        (),
    ),
    "esophagus": Phrases(
        (
            "Nasogastric tube with tip in the esophagus.",
            "The nasogastric tube ends in the chest, above the diaphragm.",
            "Malpositioned nasogastric tube, tip in the mid esophagus.",
            "Feeding tube does not reach the stomach.",
        ),
        ("Nasogastric tube too high.", "Feeding tube in the esophagus.", "Malpositioned nasogastric tube."),
        (),
    ),
    "lung": Phrases(
        (
            "Nasogastric tube in the airways, tip in a lower lobe.",
            "The nasogastric tube follows the bronchus into the lung.",
            "Malpositioned nasogastric tube, tip in the lung.",
            "Feeding tube in a bronchus, to be removed.",
        ),
        ("Nasogastric tube in the lung.", "Feeding tube in the airways.", "Malpositioned nasogastric tube."),
        (),
    ),
    "coiled": Phrases(
        (
            "Nasogastric tube coiled in the esophagus.",
            "The nasogastric tube forms a loop in the chest.",
            "Malpositioned nasogastric tube, coiled above the diaphragm.",
            "Feeding tube is curled up in the esophagus.",
        ),
        ("Coiled nasogastric tube.", "Feeding tube coiled.", "Malpositioned nasogastric tube."),
        (),
    ),
    "atrium": Phrases(
        (
            "{side} central venous catheter with tip in the right atrium.",
            "Central venous catheter from the {side} too deep, in the atrium.",
            "Malpositioned {side} central venous catheter, tip in the right atrium.",
            "{side} central line ends in the heart, to be withdrawn.",
        ),
        ("Central venous catheter too deep.", "Central line in the atrium.", "Malpositioned central venous catheter."),
        (),
    ),
    "ventricle": Phrases(
        (
            "{side} central venous catheter with tip in the right ventricle.",
            "Central venous catheter from the {side} too deep, in the ventricle.",
            "Malpositioned {side} central venous catheter, tip in the ventricle.",
            "{side} central line crosses the heart, to be withdrawn.",
        ),
        (
            "Central venous catheter too deep.",
            "Central line in the ventricle.",
            "Malpositioned central venous catheter.",
        ),
        (),
    ),
    "neck": Phrases(
        (
            "{side} central venous catheter with tip in the jugular vein.",
            "Central venous catheter from the {side} turns up into the neck.",
            "Malpositioned {side} central venous catheter, directed upwards.",
            "{side} central line ascends into the neck.",
        ),
        (
            "Central venous catheter in the neck.",
            "Central line in the jugular vein.",
            "Malpositioned central venous catheter.",
        ),
        (),
    ),
}
