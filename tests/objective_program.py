"""What each process of `test_objectives` does, one after the other: an exchange, gradients in chunks, a whole run."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from tests.toy_objective import ToyObjective
from tests.training import make_batch, make_trainer
from train.objectives import OBJECTIVES
from train.pretrain.__main__ import main
from train.runs.distributed import average_gradients, local_slice, rank
from train.selection.curator import KnownOfAll

OBJECTIVES["toy"] = ToyObjective
corpus, out = (Path(sys.argv[sys.argv.index(name) + 1]) for name in ("--dataset_dir", "--output_dir"))
trainer = make_trainer(corpus, out, "--objective", "toy")

first = make_batch(trainer, range(40))
order = first.lengths.argsort(descending=True)
batch = make_batch(trainer, order[local_slice(40)].tolist())
batch = replace(batch, extra=batch.extra | {"flags": batch.extra["labels"][:, :7] > 0})
kept = torch.arange(40) % 3 == 0
kept[:2] = False
everyone = KnownOfAll(order, first.lengths[order], first.text_keys[order])
share, _ = trainer.curator._exchange(batch, kept, everyone, None)
torch.save({"width_before": batch.text_width, "kept": order[kept], **vars(share)}, out / f"exchange-{rank()}.pt")

model = trainer.accelerator.prepare_model(trainer.model)
trainer.current_gradient_accumulation_steps = 1
batch = make_batch(trainer, range(30)[local_slice(30)])
for chunk_size in (1, 7, 15):
    trainer.encoder.chunk_size = chunk_size
    model.train().zero_grad()
    trainer.objective.zero_grad()
    trainer._backward(model, batch, None, 10**6)
    average_gradients(trainer.objective)
    everything = (*trainer.model.named_parameters(), *trainer.objective.named_parameters())
    torch.save({name: parameter.grad for name, parameter in everything}, out / f"gradients-{chunk_size}-{rank()}.pt")

main(sys.argv[1:])
