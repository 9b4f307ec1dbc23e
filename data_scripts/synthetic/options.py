"""The arguments of the synthetic corpus."""

from __future__ import annotations

from dataclasses import dataclass, field

from .findings import expected_tube_share


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

    misplaced_tube_share: float = field(
        default=0.0,
        metadata={
            "help": "Share of the endotracheal tubes, nasogastric tubes and central venous catheters that lie wrong; "
            "above 0 every film has the labels '... Misplaced' as well."
        },
    )
    tube_share: float | None = field(
        default=None,
        metadata={
            "help": "Share of the films that show at least one line or tube, e.g. 0.5; by default about one in ten. "
            "Films gain tubes and keep their findings and view."
        },
    )

    def __post_init__(self):
        for name, least in (("num_records", 1), ("film_size", 32)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be {least} or more")
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name.endswith("_share") and value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, it must lie in [0, 1]")
        least_tubes = expected_tube_share()
        if self.tube_share is not None and self.tube_share < least_tubes:
            raise ValueError(
                f"tube_share is {self.tube_share}, but {least_tubes:.3f} of the films show a line or tube without it: "
                "give more, or leave it out"
            )
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share add up to 1 or more: nothing is left to train on")
        if max(self.near_duplicate_share, self.wrong_report_share) + self.broken_image_share >= 1:
            raise ValueError(
                "broken_image_share together with near_duplicate_share or wrong_report_share must stay below 1"
            )
