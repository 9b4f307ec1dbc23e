"""The plan of a run: what arguments leave open is decided here, by the corpus and by where the tower comes from."""

from __future__ import annotations

from dataclasses import dataclass

from train.film_runs.crops import CropArguments
from train.film_runs.trainer import FilmPlan, Size
from train.self_supervised.arguments import SelfSupervisedArguments, TowerArguments
from train.self_supervised.corpus_size import values_for
from train.self_supervised.head import DinoHead, load_head
from train.self_supervised.schedules import Standstill
from train.self_supervised.towers import Tower, patch_size

#: The published run holds the last layer still for one pass of 1,250 steps; ours never for more than this share.
_PUBLISHED_STANDSTILL, _MOST_STANDSTILL = 1250, 0.1


@dataclass(frozen=True)
class Plan(FilmPlan):
    """What a run does, in numbers.

    Args:
        head: "pretrained", or "new".
        momentum, temperature: of the teacher, from the start to the end; the latter is reached after
            `temperature_steps`.
        freeze_backbone, freeze_last_layer: first steps that these stand still.
        image_size, local_size: sides of global and local crops, in pixels.
        patches_a_side: of a global crop; None for towers without patches.
    """

    prototypes: int
    head: str
    momentum: tuple[float, float]
    temperature: tuple[float, float]
    temperature_steps: int
    freeze_backbone: int
    freeze_last_layer: int
    local_size: int
    patches_a_side: int | None

    @property
    def standstill(self) -> Standstill:
        return Standstill(self.freeze_backbone, self.freeze_last_layer)


def make_plan(
    args: SelfSupervisedArguments,
    crops: CropArguments,
    tower: Tower,
    head: DinoHead,
    pretrained: bool,
    films: int,
    film_size: int,
) -> Plan:
    """The plan of a run on `films` films of `film_size` pixels.

    Raises:
        ValueError: crops are no whole number of patches, or local ones larger than global ones.
    """
    size = Size.of(args, films)
    steps = size.steps
    values = values_for(films)
    rate = args.learning_rate
    if args.base_learning_rate is not None:
        rate = args.base_learning_rate * (size.batch_size * size.accumulate / 1024) ** 0.5
    until = args.teacher_temperature_steps
    still = min(size.pass_steps, _PUBLISHED_STANDSTILL, int(_MOST_STANDSTILL * steps))
    backbone = still if not tower.is_new and not pretrained else 0
    last_layer = still if tower.is_new and not pretrained else 0
    image_size, local_size, patches = _sizes(tower, crops)
    return Plan(
        films=films,
        batch_size=size.batch_size,
        accumulate=size.accumulate,
        steps=steps,
        learning_rate=rate,
        prototypes=head.prototypes,
        head="pretrained" if pretrained else "new",
        momentum=_pair(args.teacher_momentum, values.momentum),
        temperature=_pair(args.teacher_temperature, values.temperature),
        temperature_steps=round(until * steps if until < 1 else until),
        freeze_backbone=backbone if args.freeze_backbone_steps is None else args.freeze_backbone_steps,
        freeze_last_layer=last_layer if args.freeze_last_layer_steps is None else args.freeze_last_layer_steps,
        film_size=args.film_size or film_size,
        image_size=image_size,
        local_size=local_size,
        patches_a_side=patches,
    )


def build_head(arguments: TowerArguments, tower: Tower, width: int, films: int) -> tuple[DinoHead, bool]:
    """The head, and whether it was pretrained.

    Raises:
        ValueError: the one beside the weights is of another width, or sizes were asked for that it has not.
    """
    sizes = {name: getattr(arguments, name) for name in ("prototypes", "head_hidden", "head_bottleneck")}
    if tower.head_file is not None and not arguments.new_head:
        given = [name for name, value in sizes.items() if value is not None]
        if given:
            raise ValueError(
                f"{', '.join(given)}: the head {tower.head_file} has its own sizes; leave them out, or give new_head"
            )
        return load_head(tower.head_file, width), True
    prototypes = arguments.prototypes or values_for(films).prototypes
    return DinoHead(width, prototypes, arguments.head_hidden or 2048, arguments.head_bottleneck or 256), False


def _sizes(tower: Tower, crops: CropArguments) -> tuple[int, int, int | None]:
    patch = patch_size(tower.model.config)
    unit = patch or 1
    local = crops.local_size or max(unit, round(tower.image_size * 3 / 7 / unit) * unit)
    for name, size in (("image_size", tower.image_size), ("local_size", local)):
        if size % unit:
            raise ValueError(f"{name} {size} is no multiple of the patch size {unit}")
    if local > tower.image_size:
        raise ValueError(
            f"local_size {local} is more than image_size {tower.image_size}, the side of global crops: lower it, or "
            "leave it out for 3/7 of that"
        )
    return tower.image_size, local, tower.image_size // patch if patch else None


def _pair(given: list[float] | None, derived: tuple[float, float]) -> tuple[float, float]:
    return derived if given is None else (given[0], given[1])
