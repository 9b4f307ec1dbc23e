"""The embeddings of a corpus by a reference model, which rules may set against those of the learner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data_scripts.prepared.films import PairDataset
from modeling_chexficient import CheXficientModel, CheXficientProcessor
from modeling_chexficient.base_identity_chexficient import identify_base
from train.objectives.collator import PairCollator
from train.objectives.encoding import Encoder
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.runs.flops import PairFlops
from train.selection.curator import Curator
from train.selection.state import CurationState


@dataclass(frozen=True)
class Reference:
    """What a reference model says of a corpus, and what that cost.

    Args:
        embeds: image and text embeddings [N, 2 D] fp16 of all pairs, on the CPU.
        flops: of the part that this process embedded.
        pairs: that were embedded, over all processes.
        weights_sha256: of the model; a run that goes on must be measured by the same one.
    """

    embeds: Tensor
    flops: float
    pairs: int
    weights_sha256: str


def embed_reference(folder: str | Path, dataset: PairDataset, args: CuratedTrainingArguments) -> Reference:
    """Embed all pairs by a model folder.

    Args:
        args: of the run, its selection arguments among them; all processes call this, and each embeds its part.
    """
    model = CheXficientModel.from_pretrained(folder).to(args.device)
    processor = CheXficientProcessor.from_pretrained(folder)
    image_processor, tokenizer = processor.image_processor, processor.tokenizer
    collator = PairCollator(tokenizer, image_processor.size["shortest_edge"], tokenizer.model_max_length)
    chunk = args.chunk_size or args.per_device_train_batch_size
    encoder = Encoder(image_processor.image_mean, image_processor.image_std, chunk, flops=PairFlops(model))
    curator = Curator(args, CurationState(0), encoder, model, dataset, collator)
    rows = torch.arange(len(dataset))
    embeds = curator.embed_rows(model, rows, "embedding by the reference", lambda *both: torch.cat(both, dim=1))
    sha256 = identify_base(str(folder)).weights_sha256
    return Reference(embeds.half(), encoder.spent["scored"], curator.pairs_scored, sha256)
