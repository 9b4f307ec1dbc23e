"""Results of tasks that tell places: segmentation and grounding."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from eval.records.estimates import Estimate
from eval.records.task_result import TaskResult


@dataclass
class StructureResult:
    """One structure by one decoder: "linear", "unet", "image_unet", or the method of an adapted model.

    Quantiles "0", "0.25", "0.5", "0.75", "1" are over films.

    `films` have the structure in their reference; `films_without` do not, and are no part of the Dice mean; in
    `false_alarms` of those something was segmented all the same.

    `centre_line_dice` (clDice, arXiv 2003.07311) is over `thin_films`, whose reference is a line or a tube; None where
    there is none.
    """

    decoder: str
    structure: str
    dice: Estimate
    iou: Estimate
    dice_quantiles: dict[str, float]
    films: int
    films_without: int
    false_alarms: int
    centre_line_dice: Estimate | None = None
    thin_films: int = 0


@dataclass
class SegmentationResult(TaskResult):
    """Segmentation by decoders fitted here on frozen features, or by the trained decoder of an adapted model.

    `decoders` holds `trainable` parameters and training `films` of those fitted here.
    """

    task: ClassVar[str] = "segmentation"
    _: KW_ONLY
    structures: list[StructureResult]
    macro_dice: dict[str, Estimate]
    decoders: dict[str, dict[str, int | float]]

    @property
    def headline(self) -> tuple[str, Estimate]:
        """Mean Dice of the last decoder (a U-Net where any was trained)."""
        return f"mean Dice, {self.decoder}", self.macro_dice[self.decoder]

    @property
    def decoder(self) -> str:
        """Name of the headline's decoder."""
        return list(self.macro_dice)[-1]

    @property
    def centre_line_dice(self) -> float | None:
        """Mean of that decoder over the thin structures; None where none is thin."""
        found = [one.centre_line_dice for one in self.structures if one.decoder == self.decoder]
        values = [estimate.value for estimate in found if estimate is not None and estimate.value is not None]
        return sum(values) / len(values) if values else None


@dataclass
class PointingScores:
    """How well heat maps point at regions, as means over pairs of a film and a phrase; see `eval.tasks.localisation`.

    Args:
        cnr: contrast-to-noise ratio with its sign; `cnr_absolute` is the published figure, which has none.
        miou: mean over thresholds of 0.1 to 0.5 of the IoU, 0 to 1.
        pointing: share of the maps whose highest point lies in the region or close to it (the pointing game);
            `pointing_strict` that of points within the region.
    """

    cnr: Estimate
    cnr_absolute: Estimate
    miou: Estimate
    pointing: Estimate
    pointing_strict: Estimate


@dataclass
class GroundedFinding:
    """One finding: its pairs of film and phrase, its scores by map (of `eval.tasks.grounding.MAPS`).

    `region_share` is the mean share of the film that its region takes; `focal` whether that is small.
    """

    name: str
    pairs: int
    region_share: float
    focal: bool
    scores: dict[str, PointingScores]


@dataclass
class GroundingResult(TaskResult):
    """Whether heat maps show where phrases or findings are; means over findings weigh each finding alike.

    Args:
        metric: the headline, one of `HEADLINES`.
        method: how the maps were made, of `heat_maps_chexficient.METHODS`.
        thresholded: what the thresholds of the mIoU are of: "cosines" (as published), or "maps scaled to 0..1".
        macro, macro_focal: by map, over all findings and over the focal ones.
        differences, differences_focal: model minus baseline map, in pairs, by the name of the baseline.
    """

    task: ClassVar[str] = "grounding"
    HEADLINES: ClassVar[dict[str, tuple[str, str]]] = {
        "CNR": ("macro", "cnr_absolute"),
        "pointing game, focal findings": ("macro_focal", "pointing"),
    }
    _: KW_ONLY
    metric: str
    method: str
    thresholded: str
    findings: list[GroundedFinding]
    macro: dict[str, PointingScores]
    macro_focal: dict[str, PointingScores]
    differences: dict[str, PointingScores]
    differences_focal: dict[str, PointingScores]

    @property
    def headline(self) -> tuple[str, Estimate]:
        means, figure = self.HEADLINES[self.metric]
        return self.metric, getattr(getattr(self, means)["model"], figure)
