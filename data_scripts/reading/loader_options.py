"""Arguments that several loaders share: inherit from these, so that they are spelled and explained once."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_scripts.reading.splits import split_by_patient


@dataclass
class ValidationSplit:
    """For corpora with an official test part but no validation part."""

    validation_share: float = field(
        default=0.05, metadata={"help": "Share of the official training patients held out for validation."}
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the split by patient."})

    def split_training(self, patient_id: str) -> str:
        """ "train" or "validation" for a patient of the official training part."""
        return split_by_patient(patient_id, self.validation_share, 0.0, self.split_seed)


@dataclass
class PatientSplit:
    """For corpora without any official split."""

    validation_share: float = field(default=0.05, metadata={"help": "Share of the patients held out for validation."})
    test_share: float = field(default=0.0, metadata={"help": "Share of the patients held out as a test set."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the split by patient."})

    def split(self, patient_id: str) -> str:
        """ "train", "validation" or "test" for a patient."""
        return split_by_patient(patient_id, self.validation_share, self.test_share, self.split_seed)


@dataclass
class SynthesisedReports:
    """For corpora without reports, whose text is made from their labels."""

    report_seed: int = field(default=1, metadata={"help": "Seed of the synthesised reports."})
