"""An objective of the tests: it has parameters of its own, uses one of the model, and needs a column of labels."""

import torch
from torch import Tensor, nn

from train.objectives.batch import PairBatch
from train.objectives.contrastive import contrastive_loss
from train.objectives.objective import Objective
from train.runs.distributed import gather_rows, world_size

#: More columns than any text of the tiny corpus has tokens.
WIDTH = 90


class ToyObjective(Objective):
    """The contrastive loss at a temperature that is partly its own, plus the error of predicting labels.

    Both kinds of parameters are reached by rows of this process alone and by gathered ones.
    """

    columns = ("labels",)

    def __init__(self, config):
        super().__init__(config)
        self.factor = nn.Parameter(torch.tensor(0.9))
        self.predictor = nn.Linear(config.projection_dim, WIDTH)
        self.never_used = nn.Parameter(torch.ones(2))

    @classmethod
    def collate(cls, pairs: list[dict]) -> dict[str, Tensor]:
        values = [sum(label["value"] for label in pair["labels"]) + pair["row"] / 100 for pair in pairs]
        return {"labels": torch.tensor(values).unsqueeze(1) * torch.linspace(-1, 1, WIDTH)}

    def forward(self, model, image_embeds: Tensor, text_embeds: Tensor, batch: PairBatch) -> Tensor:
        valid = batch.valid.to(image_embeds.device)
        contrastive = contrastive_loss(image_embeds, text_embeds, model.logit_scale * self.factor, valid)
        errors = (self.predictor(image_embeds) - batch.extra["labels"]).square().mean(dim=1)
        everyones = gather_rows(self.predictor(text_embeds)).mean(dim=0)
        apart = (self.predictor(image_embeds) - everyones).square().mean(dim=1)
        share = world_size() / gather_rows(valid.float()).detach().sum()
        return contrastive + ((errors + apart) * valid).sum() * share
