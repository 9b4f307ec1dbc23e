"""The headers of sections of reports as hospitals write them, in English, German, French, Spanish, Portuguese, Italian
and Dutch.
"""

from __future__ import annotations

import unicodedata

#: English headers by the section they begin, in small letters. "context" says why and how the film was taken and what
#: it was compared with; "letter" says whose it is and who wrote it.
_HEADERS = {
    "findings": (
        *("findings", "finding", "report", "result", "results", "observations", "description", "body of report"),
        *("radiographic findings", "radiological findings", "reference findings", "other findings"),
        *("additional findings", "incidental findings"),
        *("findins", "findindgs", "findgings", "findngs", "findnings", "finidngs"),
    ),
    "impression": (
        *("impression", "impressions", "conclusion", "conclusions", "opinion", "summary", "interpretation"),
        *("findings and impression", "findings/impression", "findings / impression", "impression and findings"),
        *("impression/findings", "final impression", "radiological impression", "radiologic impression"),
        *("impresson", "imprression", "imoression", "impressoin", "imprssion", "impresion", "imperssion"),
    ),
    "context": (
        *("history", "clinical history", "clinical information", "clinical info", "clinical details", "clinical data"),
        *("clinical indication", "clinical notes", "clinical note", "clinical question", "clinical diagnosis"),
        *("clinical", "clinical history and indication", "history/indication", "indication/history"),
        *("past medical history", "medical history", "patient history", "history of present illness", "pmh", "hpi"),
        *("indication", "indications", "reason", "reason for exam", "reason for examination", "reason for study"),
        *("reason for test", "reason for request", "reason for visit", "complaint", "complaints", "chief complaint"),
        *("symptoms", "signs and symptoms", "presenting complaint", "provisional diagnosis", "admitting diagnosis"),
        *("preoperative diagnosis", "request", "query", "hx", "pfi", "examination", "exam", "exam type", "study"),
        *("type of examination", "type of exam", "procedure", "technique", "comparison", "comparisons", "compared to"),
        *("comparison exam", "comparison film", "comparison study", "comparison studies", "prior study", "priors"),
        *("prior studies", "prior findings", "previous findings", "prior impression", "previous impression"),
        *("comparision", "comparsion", "comparrison", "comparisions", "contrast", "radiation dose", "dose", "views"),
        *("recommendation", "recommendations", "recommendation(s)", "wet read", "wetread", "notification"),
        *("communication", "critical results", "critical result", "quality", "image quality"),
    ),
    "addendum": ("addendum", "addenda", "final addendum"),
    # What follows has no header yet.
    "before": ("original report", "final report", "preliminary report"),
    "letter": (
        *("patient", "patient name", "name", "pt", "pt name", "patient id", "mrn", "medical record number", "dob"),
        *("date of birth", "birth date", "age", "sex", "gender", "age/sex", "accession", "accession number"),
        *("accession #", "accession no", "acc", "acc #", "exam date", "date of exam", "date of examination", "date"),
        *("study date", "date of service", "ordering physician", "ordering provider", "referring physician"),
        *("referring doctor", "referrer", "physician", "requesting physician", "attending", "attending physician"),
        *("radiologist", "reading radiologist", "reading location", "location", "ward", "department", "hospital"),
        *("facility", "report status", "status", "cc", "technologist", "radiographer", "address", "phone", "fax"),
        *("attestation", "teaching physician statement", "signature", "signed", "dictated", "transcribed", "author"),
    ),
}
#: Those of other languages, with their accents; they are known without them, too.
_FOREIGN = {
    "findings": (
        *("befund", "befunde", "röntgenbefund", "röntgenologischer befund", "aktueller befund"),
        *("résultat", "résultats", "constatations", "compte rendu", "compte-rendu", "interprétation des images"),
        *("hallazgos", "hallazgos radiológicos", "informe", "informe radiológico", "descripción"),
        *("achados", "achados radiológicos", "relatório", "laudo", "descrição", "análise"),
        *("referto", "reperto", "reperti", "descrizione", "bevindingen", "verslag"),
    ),
    "impression": (
        *("beurteilung", "zusammenfassung", "befund und beurteilung", "befund/beurteilung", "gesamtbeurteilung"),
        *("interprétation", "synthèse", "au total"),
        *("impresión", "impresión diagnóstica", "conclusión", "conclusiones", "juicio diagnóstico", "opinión"),
        *("impressão", "impressão diagnóstica", "conclusão", "conclusões"),
        *("impressione", "conclusione", "conclusioni", "conclusie", "impressie", "beoordeling"),
    ),
    "context": (
        *("anamnese", "klinik", "klinische angaben", "klinische angabe", "klinische fragestellung", "fragestellung"),
        *("klinische diagnose", "angaben", "indikation", "rechtfertigende indikation", "klinik und fragestellung"),
        *("vergleich", "voraufnahme", "voraufnahmen", "voruntersuchung", "voruntersuchungen", "technik"),
        *("untersuchung", "untersuchungstechnik", "methode", "empfehlung", "empfehlungen"),
        *("renseignements cliniques", "contexte", "contexte clinique", "motif", "motif de l'examen", "antécédents"),
        *(
            "histoire de la maladie",
            "question posée",
            "comparaison",
            "examen comparatif",
            "examen",
            "examens antérieurs",
        ),
        *("recommandation", "recommandations"),
        *("antecedentes", "datos clínicos", "información clínica", "historia clínica", "motivo", "motivo de consulta"),
        *("motivo del estudio", "motivo de la consulta", "indicación", "técnica", "comparación", "exploración"),
        *("estudio", "estudios previos", "recomendación", "recomendaciones"),
        *("dados clínicos", "informações clínicas", "história clínica", "indicação", "indicação clínica"),
        *("comparação", "exame", "recomendação", "recomendações"),
        *("anamnesi", "quesito", "quesito clinico", "quesito diagnostico", "indicazione", "tecnica", "confronto"),
        *("klinische gegevens", "klinische vraagstelling", "vraagstelling", "indicatie", "techniek", "vergelijking"),
        *("onderzoek", "anamnese en vraagstelling"),
    ),
    "addendum": ("nachtrag", "zusatzbefund", "addenda", "complément", "adenda", "aggiunta"),
    "letter": (
        *("patientenname", "patientin", "geburtsdatum", "geb.", "fallnummer", "untersuchungsdatum", "station"),
        *("nom", "prénom", "date de naissance", "né le", "née le", "médecin", "médecin demandeur"),
        *("paciente", "fecha", "fecha de nacimiento", "médico", "médico solicitante", "nombre"),
        *("data de nascimento", "nome", "médico solicitante", "paziente", "data di nascita", "medico richiedente"),
        *("patiënt", "geboortedatum", "aanvrager"),
    ),
}


def _without_accents(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


#: Sections by header.
SECTION_OF = {
    spelling: section
    for headers_of in (_FOREIGN, _HEADERS)
    for section, headers in headers_of.items()
    for header in headers
    for spelling in (header, _without_accents(header))
}
_WORDS_OF_TEXT = (
    *("study", "views", "dose", "contrast", "quality", "image quality", "request", "query", "reason", "clinical"),
    *("procedure", "priors", "complaint", "complaints", "symptoms", "recommendation", "recommendations"),
    *("recommendation(s)", "patient", "name", "pt", "age", "sex", "gender", "acc", "acc #", "date", "physician"),
    *("attending", "location", "ward", "department", "hospital", "facility", "status", "address", "phone", "fax"),
    *("motif", "motivo", "estudio", "examen", "exame", "untersuchung", "onderzoek", "angaben", "methode"),
    *("empfehlung", "empfehlungen", "recommandation", "recommandations", "recomendación", "recomendaciones"),
    *("recomendação", "recomendações", "nome", "nom", "nombre", "fecha", "paciente", "paziente", "patientin"),
    *("patiënt", "médico", "médecin", "station"),
)
#: Within findings or an impression these are words of the text: "Location: right upper lobe".
AMBIGUOUS = frozenset(spelling for word in _WORDS_OF_TEXT for spelling in (word, _without_accents(word)))
