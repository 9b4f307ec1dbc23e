"""Whose film it is: ids that mean one patient, films that stay together, and ids as they may be written."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

#: What anonymising programs and clerks write for all patients alike.
_NOBODY = re.compile(
    r"(anonym\w*|anon|unknown|unk|none|null|nan|n/?a|not (available|known|given)|de-?identified|removed|redacted|"
    r"blank|hidden|private|patient|patient ?id|no ?id|no ?name|test|xx+|0+|9{4,}|-+|\?+|\.+|\*+)",
    re.IGNORECASE,
)
#: One id of more than this share of the films, and of so many films, is no patient.
MOST, MANY = 0.5, 10


def means_nobody(patient: str) -> bool:
    """Whether an id of a patient is a word such as ANONYMOUS, or a row of zeros."""
    return _NOBODY.fullmatch(patient.strip(" _<>[]()^")) is not None or not patient.strip(" _<>[]()^")


def one_spelling(counts: Mapping[str, int]) -> dict[str, str]:
    """The most frequent spelling of each id that is written in several ways: with leading zeros and without, or in
    small and in capital letters. Exports of two systems differ in these.

    Args:
        counts: films by id.
    """
    spellings = defaultdict(list)
    for name in counts:
        spellings[name.lstrip("0") if name.isdigit() else name.casefold()].append(name)
    return {
        name: max(sorted(names), key=lambda one: counts[one])
        for names in spellings.values()
        for name in names
        if len(names) > 1
    }


@dataclass(frozen=True)
class Owner:
    """Patient and study of a film as table, path or header say, "" where they do not.

    `patient_in_header`, `study_in_header`: whether they are of a DICOM header.
    """

    patient: str = ""
    study: str = ""
    patient_in_header: bool = False
    study_in_header: bool = False


class Owners:
    """The owners of all films: they show an id that most of the corpus has, and keep a film without a patient's id with
    the others of its study."""

    def __init__(self, owners: Iterable[Owner], keep_ids: bool = False):
        """`keep_ids`: also take words such as ANONYMOUS, and an id of most films, for one patient."""
        owners = list(owners)
        patients = Counter(owner.patient for owner in owners if owner.patient)
        self.nobody = set() if keep_ids else {name for name in patients if means_nobody(name)}
        self.spelling = one_spelling({name: count for name, count in patients.items() if name not in self.nobody})
        studies = Counter(owner.study for owner in owners if owner.study)
        most = max(MOST * len(owners), MANY - 1)
        self.no_study = set() if keep_ids else {name for name, count in studies.items() if count > most}
        by_patient = defaultdict(set)
        for number, owner in enumerate(owners):
            by_patient[owner.patient].add(owner.study if owner.study and owner.study not in self.no_study else number)
        if not keep_ids:
            # Many films of one study are one patient's.
            common = {name for name, count in patients.items() if count > most and len(by_patient[name]) >= MANY}
            self.nobody |= common
        self.of_study = defaultdict(set)
        for owner in map(self._without_nobody, owners):
            if owner.patient and owner.study:
                self.of_study[owner.study].add(owner)
        self.notes = self._notes(owners, patients)

    def _notes(self, owners: list[Owner], patients: Counter) -> list[str]:
        notes = []
        for patient in sorted(self.nobody, key=lambda name: -patients[name]):
            # An id that is no such word may be somebody's.
            shown = repr(patient) if means_nobody(patient) else "one and the same"
            notes.append(
                f"patient id {shown} is that of {patients[patient]:,} of {len(owners):,} films and is not used: films "
                "are kept together by study (--patient_column or --patient_pattern give patients, --keep_patient_ids "
                "takes it for one)"
            )
        if self.spelling:
            notes.append(
                f"{len(self.spelling):,} patient ids are those of {len({*self.spelling.values()}):,} patients, written "
                "with and without leading zeros, or in small and in capital letters: each counts as one"
            )
        if self.no_study:
            notes.append("one study id is that of most films and is not used (--keep_patient_ids takes it for one)")
        unknown = sum(not self.settle(owner).patient for owner in owners)
        if unknown and not self.nobody:
            notes.append(
                f"{unknown:,} of {len(owners):,} films have no patient id: they are kept together by study, where one "
                "is known, and patients may cross splits (--patient_column or --patient_pattern)"
            )
        return notes

    def _without_nobody(self, owner: Owner) -> Owner:
        patient = "" if owner.patient in self.nobody else self.spelling.get(owner.patient, owner.patient)
        return replace(owner, patient=patient, study="" if owner.study in self.no_study else owner.study)

    def settle(self, owner: Owner) -> Owner:
        """The owner without ids that mean nobody, and the patient in one spelling; a patient who is unknown is the only
        one of the study, if any.
        """
        owner = self._without_nobody(owner)
        known = (
            {(member.patient, member.patient_in_header) for member in self.of_study[owner.study]} if owner.study else ()
        )
        if owner.patient or len(known) != 1:
            return owner
        ((patient, in_header),) = known
        return replace(owner, patient=patient, patient_in_header=in_header)


class Names:
    """Ids as they may be written: hashed with a salt if there is one; otherwise those of DICOM are numbered.

    A hash is the first 64 bits of HMAC-SHA256 with the salt as key: without the salt, ids cannot be tried out.
    Numbers begin with `folder` (see `digest_of`), so that they still differ where folders are mixed.
    """

    def __init__(self, salt: str | None, folder: str = ""):
        self.salt, self.folder = salt, folder
        self.numbers: dict[str, dict[str, int]] = defaultdict(dict)

    def of_table(self, kind: str, value: str) -> str:
        """An id that the user's table or file names give."""
        return self._hashed(kind, value) if self.salt else value

    def of_header(self, kind: str, value: str) -> str:
        """An id of a DICOM file or its header, which is never written as it stands."""
        if self.salt:
            return self._hashed(kind, value)
        numbers = self.numbers[kind]
        return f"{kind}-{self.folder}-{numbers.setdefault(value, len(numbers) + 1):06d}"

    def _hashed(self, kind: str, value: str) -> str:
        return hmac.new(self.salt.encode(), f"{kind}/{value}".encode(), hashlib.sha256).hexdigest()[:16]
