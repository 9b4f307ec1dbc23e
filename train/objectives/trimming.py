"""Any objective, without the pairs of a batch whose film and report seem not to belong together.

A trimmed loss: what fits worst is left out of every step anew, by the model as it is then (iterative trimmed loss
minimisation, Shen and Sanghavi, arXiv 1810.11874; of mismatched images and texts, Huang et al., Learning with Noisy
Correspondence for Cross-modal Matching, NeurIPS 2021). How many are left out is told by the pairs that are known to be
mismatched, those of a film with the report of another one (`train.objectives.agreement`), so no share of wrong reports
need be given. Nothing is scored for it: these are the embeddings of the step. To a model that has learnt little much
that is right looks wrong, and what is left out is not learnt, so a run from scratch begins without.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from train.objectives.agreement import MOST_WRONG, better_than_mismatched, seem_right
from train.objectives.batch import PairBatch
from train.objectives.objective import Objective
from train.runs.distributed import agree, gather_rows, gather_uneven, rank

if TYPE_CHECKING:
    import pandas as pd

#: Of a finished run: the pairs that were left out, and how often.
LEFT_OUT_FILE = "left_out.csv"
#: A million mismatched pairs tell enough, and comparing all of a large batch would cost more than its loss.
JUDGED_TOGETHER = 1024
#: In a checkpoint: how often each pair was judged and left out.
TRIMMING_FILE = "trimming.safetensors"


def judge(images: Tensor, texts: Tensor, rows: Tensor, text_keys: Tensor, wrong_above: float) -> Tensor:
    """Which pairs of a batch seem right, bool [B]; all of them where embeddings are not finite.

    Of a large batch equal parts of it are judged apart, the same ones in whatever order the pairs are given.

    Args:
        images, texts: [B, D] of unit norm.
        rows: [B] int64, of the pairs in the corpus.
        text_keys: [B] int64, of `PairBatch`.
        wrong_above: see `seem_right`.
    """
    right, order = torch.ones_like(rows, dtype=torch.bool), rows.argsort(stable=True)
    parts = max(1, math.ceil(len(rows) / JUDGED_TOGETHER))
    for part in (order[first::parts] for first in range(parts)):
        # What is not finite is told by the loss.
        if images[part].isfinite().all() and texts[part].isfinite().all():
            agreement = better_than_mismatched(images[part], texts[part], text_keys=text_keys[part])
            right[part] = seem_right(agreement, wrong_above, MOST_WRONG)[0]
    return right


class TrimmedObjective(Objective):
    """`objective` of the pairs of a batch that seem right, of all processes; the others are no negatives either.

    Args:
        objective: what is learnt from them. Its parameters are those of this one.
        wrong_above: what is wrong with more than this probability is left out, in (0, 1], see `seem_right`.
        num_rows: of the corpus.

    Attributes:
        active: whether pairs are left out now; else none is judged.
        judged, left_out: [num_rows] int32, in how many batches each pair was judged, and was left out.
    """

    def __init__(self, objective: Objective, wrong_above: float, num_rows: int):
        # It has no sizes of its own to take from a configuration.
        nn.Module.__init__(self)
        self.objective = objective
        self.wrong_above = wrong_above
        self.active = True
        self.judged = torch.zeros(num_rows, dtype=torch.int32)
        self.left_out = torch.zeros(num_rows, dtype=torch.int32)
        self._since_log = (0, 0)

    def forward(self, model, image_embeds: Tensor, text_embeds: Tensor, batch: PairBatch) -> Tensor:
        if not self.active:
            return self.objective(model, image_embeds, text_embeds, batch)
        right = self._seem_right(image_embeds.detach(), text_embeds.detach(), batch)
        return self.objective(model, image_embeds, text_embeds, replace(batch, valid=batch.valid & right))

    def _seem_right(self, image_embeds: Tensor, text_embeds: Tensor, batch: PairBatch) -> Tensor:
        """[b] bool on the CPU, of this process's pairs; all processes judge all pairs alike."""
        valid = batch.valid.to(image_embeds.device)
        images, texts, all_valid = gather_rows(image_embeds), gather_rows(text_embeds), gather_uneven(valid)
        rows = gather_uneven(batch.rows.to(image_embeds.device))[all_valid]
        right = torch.ones_like(all_valid)
        keys = gather_uneven(batch.text_keys.to(image_embeds.device))[all_valid]
        right[all_valid] = judge(images[all_valid], texts[all_valid], rows, keys, self.wrong_above)
        agree(right)
        # A mixture may repeat a pair within a batch.
        self.judged.index_add_(0, rows.cpu(), torch.ones(len(rows), dtype=torch.int32))
        self.left_out.index_add_(0, rows.cpu(), (~right[all_valid]).cpu().int())
        return right[rank() * len(valid) :][: len(valid)].cpu()

    def share_since_log(self) -> float:
        """The share of pairs left out since this was last asked."""
        now = int(self.judged.sum()), int(self.left_out.sum())
        judged, left_out = (new - old for new, old in zip(now, self._since_log, strict=True))
        self._since_log = now
        return left_out / max(1, judged)

    def save(self, folder: Path) -> None:
        """Write the counts into a checkpoint."""
        save_file({"judged": self.judged, "left_out": self.left_out}, folder / TRIMMING_FILE)

    def load(self, folder: Path) -> None:
        """Take over what `save` wrote."""
        for name, counts in load_file(folder / TRIMMING_FILE).items():
            getattr(self, name).copy_(counts)
        self._since_log = int(self.judged.sum()), int(self.left_out.sum())

    def table(self, record_ids: list[str]) -> pd.DataFrame:
        """The pairs that were ever left out, those first that were in the largest share of the batches that judged
        them: of what always is, the report is probably of another film.

        Args:
            record_ids: of all rows.
        """
        # Here, so that the arguments of a run do not wait for it.
        import pandas as pd

        counts = {"judged": self.judged.numpy(), "left_out": self.left_out.numpy()}
        table = pd.DataFrame({"record_id": record_ids, **counts})
        table = table[table.left_out > 0]
        share = table.left_out / table.judged
        return table.assign(share=share.round(3)).sort_values(["share", "left_out"], ascending=False, kind="stable")
