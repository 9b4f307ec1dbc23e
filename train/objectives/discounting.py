"""Every pair counts by the probability that film and report belong together, as the step's own embeddings tell it.

A part of the pairs of any corpus has the report of another film: what is written about the wrong side, the day before,
the next patient. To a model that knows such films they agree as mismatched pairs do, of which every batch holds
thousands, so the probability that a pair is one of them is known without labels, thresholds or a share to be given
(`train.objectives.agreement`). Nothing is scored for it. A pair in doubt counts by half: a gate at any level would lose
right pairs, rare findings above all, and let wrong ones pass whole. Films and reports of wrong pairs stay negatives of
the others, which they are rightly.

A model that has learnt little finds much wrong that is right, and what is discounted is not learnt, so a run from
scratch begins without.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from train.objectives.agreement import MOST_WRONG, better_than_mismatched, wrong_probability
from train.objectives.batch import PairBatch
from train.objectives.objective import Objective
from train.runs.distributed import agree, gather_rows, gather_uneven, rank

if TYPE_CHECKING:
    import pandas as pd

#: Of a finished run: the pairs whose reports seem to be of other films.
SUSPECTED_FILE = "suspected_reports.csv"
#: A million mismatched pairs tell enough, and comparing all of a large batch would cost more than its loss.
JUDGED_TOGETHER = 1024
#: In a checkpoint: how often each pair was judged, and how.
DISCOUNTING_FILE = "discounting.safetensors"


def judge(images: Tensor, texts: Tensor, rows: Tensor, text_keys: Tensor) -> Tensor:
    """[B] fp32, the probability of every pair of a batch to be wrong; NaN where the model cannot tell.

    It cannot where too many would be wrong (`MOST_WRONG`), or where embeddings are not finite. Of a large batch equal
    parts of it are judged apart, the same ones in whatever order the pairs are given.

    Args:
        images, texts: [B, D] of unit norm.
        rows: [B] int64, of the pairs in the corpus.
        text_keys: [B] int64, of `PairBatch`.
    """
    wrong, order = torch.full((len(rows),), torch.nan, device=images.device), rows.argsort(stable=True)
    parts = max(1, math.ceil(len(rows) / JUDGED_TOGETHER))
    for part in (order[first::parts] for first in range(parts)):
        # What is not finite is told by the loss.
        if images[part].isfinite().all() and texts[part].isfinite().all():
            agreement = better_than_mismatched(images[part], texts[part], text_keys=text_keys[part])
            probability, knows = wrong_probability(agreement, MOST_WRONG)
            if knows:
                wrong[part] = probability
    return wrong


class DiscountedObjective(Objective):
    """`objective` with every pair of the batch, of all processes, weighted by its probability to be right.

    Args:
        objective: what is learnt. Its parameters are those of this one; it must heed the weights of a batch.
        num_rows: of the corpus.

    Attributes:
        active: whether pairs are discounted now; else none is judged.
        judged: [num_rows] int32, in how many batches each pair was judged; those where the model could not tell do not
            count.
        wrong: [num_rows] fp32, the sum of its probabilities to be wrong in them.
    """

    def __init__(self, objective: Objective, num_rows: int):
        # It has no sizes of its own to take from a configuration.
        nn.Module.__init__(self)
        self.objective = objective
        self.active = True
        self.judged = torch.zeros(num_rows, dtype=torch.int32)
        self.wrong = torch.zeros(num_rows)
        self._since_log = (0, 0.0)

    def forward(self, model, image_embeds: Tensor, text_embeds: Tensor, batch: PairBatch) -> Tensor:
        if self.active:
            wrong = self._judge(image_embeds.detach(), text_embeds.detach(), batch)
            # Where the model cannot tell, all pairs count alike.
            batch = replace(batch, weights=1 - wrong.nan_to_num())
        return self.objective(model, image_embeds, text_embeds, batch)

    def _judge(self, image_embeds: Tensor, text_embeds: Tensor, batch: PairBatch) -> Tensor:
        """[b] on the CPU, of this process's pairs, as `judge` has it; all processes judge all pairs alike."""
        valid = batch.valid.to(image_embeds.device)
        images, texts, all_valid = gather_rows(image_embeds), gather_rows(text_embeds), gather_uneven(valid)
        rows = gather_uneven(batch.rows.to(image_embeds.device))[all_valid]
        keys = gather_uneven(batch.text_keys.to(image_embeds.device))[all_valid]
        wrong = torch.zeros(len(all_valid), device=image_embeds.device)
        wrong[all_valid] = judge(images[all_valid], texts[all_valid], rows, keys)
        wrong, rows = agree(wrong).cpu(), rows.cpu()
        told = wrong[all_valid.cpu()]
        # A mixture may repeat a pair within a batch.
        self.judged.index_add_(0, rows, told.isfinite().int())
        self.wrong.index_add_(0, rows, told.nan_to_num())
        return wrong[rank() * len(valid) :][: len(valid)]

    def share_since_log(self) -> float | None:
        """The share of pairs that seem wrong, of those judged since this was last asked; None where none was."""
        now = int(self.judged.sum()), float(self.wrong.double().sum())
        judged, wrong = (new - old for new, old in zip(now, self._since_log, strict=True))
        self._since_log = now
        return wrong / judged if judged else None

    def save(self, folder: Path) -> None:
        """Write the counts into a checkpoint."""
        save_file({"judged": self.judged, "wrong": self.wrong}, folder / DISCOUNTING_FILE)

    def load(self, folder: Path) -> None:
        """Take over what `save` wrote."""
        for name, counts in load_file(folder / DISCOUNTING_FILE).items():
            getattr(self, name).copy_(counts)
        self._since_log = int(self.judged.sum()), float(self.wrong.double().sum())

    def table(self, record_ids: list[str]) -> pd.DataFrame:
        """The pairs that are rather wrong than right by the mean of their probabilities, the surest first.

        Args:
            record_ids: of all rows.
        """
        # Here, so that the arguments of a run do not wait for it.
        import pandas as pd

        mean = (self.wrong / self.judged.clamp(min=1)).numpy().round(3)
        table = pd.DataFrame({"record_id": record_ids, "judged": self.judged.numpy(), "wrong_probability": mean})
        table = table[table.wrong_probability > 0.5]
        return table.sort_values(["wrong_probability", "judged"], ascending=False, kind="stable")
