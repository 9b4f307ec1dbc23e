"""Does scoring on smaller images choose the same pairs? Measured on a finished run.

    python -m train.selection.agreement RUN_DIR --sizes 56 84

The super-batches of a random sample of the corpus are scored by the run's model at full size and at each smaller one,
and chosen from by the run's rule and prototypes, with the same random choices. Reported is the share of the pairs kept
at full size that are kept at the smaller size too, and what that share would be if the choices had nothing in common.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data_scripts.command_line import command_name
from data_scripts.prepared.films import COLUMNS, PairDataset
from data_scripts.prepared.mixture import Mixture, load_mixture
from data_scripts.progress import progress
from eval.records.runs import PretrainRun
from modeling_chexficient import CheXficientModel, CheXficientProcessor
from train.objectives.batch import PairBatch
from train.objectives.collator import PairCollator
from train.objectives.encoding import Encoder
from train.objectives.modes import evaluation_mode
from train.runs.flops import PairFlops
from train.selection.knowledge import REFERENCE, know
from train.selection.rule import Candidates, When
from train.selection.rules import rule_named
from train.selection.state import CurationState


def measure(run_dir: Path, sizes: list[int], super_batches: int, seed: int, batch_size: int) -> dict:
    """Overlap with its 95 % interval over super-batches and relative FLOP of scoring, for each of `sizes`.

    Raises:
        ValueError: the run did not choose by a rule that scores, or there are fewer than 2 super-batches.
    """
    run = PretrainRun.load(run_dir)
    rule = rule_named(run.selection)
    if REFERENCE in rule.needs:
        raise ValueError(f"{run_dir}: selection {rule.name} compares with another model, which is not asked here")
    if not rule.scores or rule.when is not When.ONLINE:
        raise ValueError(f"{run_dir}: selection {rule.name} scores nothing while training: nothing to compare")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = CheXficientModel.from_pretrained(run_dir / "model").to(device)
    processor = CheXficientProcessor.from_pretrained(run_dir / "model")
    image_processor, tokenizer = processor.image_processor, processor.tokenizer
    full = image_processor.size["shortest_edge"]
    prototypes = CurationState.load(run_dir, device).prototypes
    split = load_mixture(Mixture.from_json(run.mixture), "train", COLUMNS)
    known, dataset = know(rule.needs, split), PairDataset(split)
    flops = PairFlops(model)
    encoder = Encoder(image_processor.image_mean, image_processor.image_std, batch_size)
    count = run.schedule["super_batch_size"]
    order = np.random.default_rng(seed).permutation(len(dataset))
    batches = [order[start : start + count] for start in range(0, len(order) - count + 1, count)][:super_batches]
    if len(batches) < 2:
        raise ValueError(f"{len(dataset)} pairs make fewer than 2 super-batches of {count}")
    constants = rule.constants.of(run.settings)

    def chosen(batch: PairBatch, image_size: int, number: int) -> Tensor:
        of_batch = {name: values[batch.rows] for name, values in known.items()}
        pairs = Candidates(batch.rows, *encoder.embed_all(model, batch, image_size), prototypes, of_batch)
        generator = torch.Generator().manual_seed(number)
        return rule.choose(pairs, run.keep_share_asked, generator, constants).kept.cpu()

    overlaps = {size: [] for size in sizes}
    collator = PairCollator(tokenizer, full, tokenizer.model_max_length)
    loader = DataLoader(dataset, batch_sampler=[part.tolist() for part in batches], collate_fn=collator)
    with evaluation_mode(model):
        for number, batch in enumerate(progress(loader, desc="scoring", unit=" super-batches")):
            batch = batch.to(device)
            whole = chosen(batch, full, number)
            for size in sizes:
                small = chosen(batch, size, number)
                overlaps[size].append(float((whole & small).sum() / whole.sum()))
    text = flops.text(64).forward
    return {
        "run": str(run_dir),
        "super_batches": len(batches),
        "seed": seed,
        "chance": float(whole.float().mean()),
        "full_size": full,
        "sizes": {
            size: {
                "overlap": float(np.mean(values)),
                "interval": 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5,
                "flops": (flops.image(size).forward + text) / (flops.image(full).forward + text),
            }
            for size, values in overlaps.items()
        },
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=command_name(), description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="a finished run of train.pretrain")
    parser.add_argument("--sizes", type=int, nargs="+", required=True, help="smaller image sides, in pixels")
    parser.add_argument("--super_batches", type=int, default=10, help="how many are chosen from")
    parser.add_argument("--batch_size", type=int, default=64, help="pairs a forward pass")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parsed = parser.parse_args(arguments)
    try:
        result = measure(parsed.run_dir, parsed.sizes, parsed.super_batches, parsed.seed, parsed.batch_size)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
