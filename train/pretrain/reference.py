"""The embeddings of a corpus by a reference model, which rules may set against those of the learner."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from data_scripts.prepared.films import PairDataset
from modeling_chexficient import CheXficientModel, CheXficientProcessor
from train.objectives.collator import PairCollator
from train.objectives.encoding import Encoder
from train.pretrain.arguments import CuratedTrainingArguments
from train.runs.flops import PairFlops
from train.selection.curator import Curator
from train.selection.state import CurationState


def embed_reference(folder: str | Path, dataset: PairDataset, args: CuratedTrainingArguments) -> tuple[Tensor, float]:
    """Image and text embeddings [N, 2 D] fp16 of all pairs by a model folder, on the CPU, and what that cost in FLOP.

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
    return embeds.half(), encoder.spent["scored"]
