"""How much the image tower sees of a film: a cheaper first part of the subset phase, and whole films at its end."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class View:
    """How much the image tower sees of each film of a batch.

    Args:
        image_size: side of the images in pixels; None: as they are.
        patch_drop_share: of their patches, how many are dropped.
    """

    image_size: int | None = None
    patch_drop_share: float = 0.0


@dataclass
class ViewArguments:
    """Savings that change what is learnt: smaller images, or a part of their patches, before the last steps."""

    low_resolution_size: int | None = field(
        default=None, metadata={"help": "Side of the images in the first part of the subset phase; default: full size."}
    )
    low_resolution_share: float = field(
        default=0.75, metadata={"help": "That part, as a share of the subset phase (with low_resolution_size)."}
    )
    patch_drop_share: float = field(
        default=0.0,
        metadata={
            "help": "Share of its patches that the image tower (a ViT) does not see of a film in the first part of the "
            "subset phase, such as 0.5; others at each step. Scoring, curation and evaluation see whole films."
        },
    )
    patch_drop_steps_share: float = field(
        default=0.9, metadata={"help": "That part, as a share of the subset phase (with patch_drop_share)."}
    )

    @property
    def views(self) -> list[tuple[float, View]]:
        """Parts of the subset phase in order: where each ends, as a share of the phase, and what is seen in it."""
        small = 0.0 if self.low_resolution_size is None else self.low_resolution_share
        dropping = self.patch_drop_steps_share if self.patch_drop_share else 0.0
        parts = []
        for end in sorted({small, dropping, 1.0} - {0.0}):
            size = self.low_resolution_size if end <= small else None
            parts.append((end, View(size, self.patch_drop_share if end <= dropping else 0.0)))
        return parts

    def view_at(self, step: int, steps: int) -> View:
        """What is seen in a step of the `steps` of the subset phase; before it (below 0) and behind it whole films."""
        if step < 0:
            return View()
        return next((view for end, view in self.views if step < end * steps), View())

    def check_views(self) -> None:
        """Raise ValueError for values that cannot be."""
        if self.low_resolution_size is not None and self.low_resolution_size < 32:
            raise ValueError(f"low_resolution_size is {self.low_resolution_size}, it must be at least 32 pixels")
        if not 0 <= self.low_resolution_share <= 1:
            raise ValueError(f"low_resolution_share is {self.low_resolution_share}, it must lie in [0, 1]")
        if not 0 <= self.patch_drop_share < 1:
            raise ValueError(f"patch_drop_share is {self.patch_drop_share}, it must lie in [0, 1), such as 0.5")
        if not 0 <= self.patch_drop_steps_share <= 1:
            raise ValueError(f"patch_drop_steps_share is {self.patch_drop_steps_share}, it must lie in [0, 1]")
        self._check_parts("low_resolution_size", "low_resolution_share")
        self._check_parts("patch_drop_share", "patch_drop_steps_share")

    def _check_parts(self, what: str, part: str) -> None:
        """Raise ValueError where one of two arguments that belong together makes the other do nothing."""
        if getattr(self, what) and not getattr(self, part):
            raise ValueError(f"{what} is {getattr(self, what)}, but {part} is 0: raise it, or leave {what} out")
        if not getattr(self, what) and getattr(self, part) != getattr(type(self), part):
            raise ValueError(f"{part} is {getattr(self, part)}, which says nothing without {what}: give both, or none")
