"""Splits by patient that depend on nothing but the patient's id and a seed."""

from __future__ import annotations

import hashlib


def split_by_patient(patient_id: str, validation_share: float, test_share: float, seed: int = 0) -> str:
    """ "train", "validation" or "test" for a patient: the same for all images, on any machine, in any order.

    Raises:
        ValueError: the shares are negative or leave nothing for training.
    """
    if validation_share < 0 or test_share < 0 or validation_share + test_share >= 1:
        raise ValueError(
            f"validation_share {validation_share} and test_share {test_share} must be at least 0 and below 1 together"
        )
    digest = hashlib.sha256(f"{seed}/{patient_id}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < test_share:
        return "test"
    return "validation" if position < test_share + validation_share else "train"
