"""The arguments of the synthetic corpus."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SyntheticOptions:
    """How many films to render, how large, and how much of the training split is spoilt on purpose.

    Raises `ValueError` naming the argument where a value is out of range.
    """

    num_records: int = field(default=16000, metadata={"help": "Number of films."})
    film_size: int = field(default=112, metadata={"help": "Side of the square films in pixels, 32 or more."})
    seed: int = field(default=0, metadata={"help": "Another seed gives another corpus, of other patients."})
    near_duplicate_share: float = field(
        default=0.06, metadata={"help": "Share of the training films that nearly repeat an earlier film."}
    )
    wrong_report_share: float = field(
        default=0.03, metadata={"help": "Share of the training films with the report of somebody else."}
    )
    broken_image_share: float = field(
        default=0.02, metadata={"help": "Share of the training films whose image is useless (blank, static, ...)."}
    )
    validation_share: float = field(default=0.05, metadata={"help": "Share of the films held out for validation."})
    test_share: float = field(default=0.15, metadata={"help": "Share of the films held out for the test."})

    def __post_init__(self):
        for name, least in (("num_records", 1), ("film_size", 32)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be {least} or more")
        shares = [name for name in self.__dataclass_fields__ if name.endswith("_share")]
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must lie in [0, 1]")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share add up to 1 or more: nothing is left to train on")
        if max(self.near_duplicate_share, self.wrong_report_share) + self.broken_image_share >= 1:
            raise ValueError(
                "broken_image_share together with near_duplicate_share or wrong_report_share must stay below 1"
            )
