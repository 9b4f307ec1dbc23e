"""Choosing from super-batches while training: score, select, remember, and hand the kept pairs out evenly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, SequentialSampler, Subset

from data_scripts.prepared.films import PairDataset
from data_scripts.progress import progress
from train.objectives.collator import PairCollator
from train.objectives.encoding import Encoder, pair_features
from train.pretrain.arguments import CuratedTrainingArguments
from train.runs.distributed import (
    agree,
    even_share,
    gather_to_cpu,
    gather_uneven,
    local_slice,
    rank,
    share_buffers,
    slices,
    world_size,
)
from train.selection.outcome import Role, Selection
from train.selection.prototypes import kmeans_prototypes, mean_pairwise_cosine, update_prototypes
from train.selection.rules import SELECTION_RULES, select_random
from train.selection.semdedup import select_semdedup
from train.selection.state import CurationState

#: Attributes by which modules hold a probability of dropping: `nn.Dropout` the first, those of transformers the others.
_DROP_ATTRIBUTES = ("p", "dropout", "attention_dropout", "dropout_prob", "drop_prob")


class NonFiniteError(FloatingPointError):
    """NaN or infinity where training cannot go on; names the step and the pairs."""


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Without gradient and dropout, and back to the mode the model was in."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        model.train(training)


@contextmanager
def without_dropout(model: torch.nn.Module, active: bool = True) -> Iterator[None]:
    """Training mode with everything that drops switched off, so that scoring and training see the same embeddings."""
    places = [(module, name) for module in model.modules() for name in _DROP_ATTRIBUTES] if active else []
    before = [(module, name, getattr(module, name, None)) for module, name in places]
    before = [(module, name, value) for module, name, value in before if isinstance(value, float) and value > 0]
    for module, name, _ in before:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def embeds_alike_in_training(model: torch.nn.Module) -> bool:
    """Whether training mode `without_dropout` gives the embeddings of evaluation mode: not with batch normalisation."""
    return not any(isinstance(module, _BatchNorm) for module in model.modules())


class Curator:
    """Selects from the corpus by the rule of `args`, keeping `state`.

    All processes select from the features of all of them alike, so the kept subset does not depend on their number.

    Attributes:
        args, state, encoder, dataset, collator: see their classes.
        pairs_scored: how many pairs went through the towers to be judged, over all processes.
        reuses_scores: whether scored embeddings stand for the first pass of gradient caching.
    """

    def __init__(
        self,
        args: CuratedTrainingArguments,
        state: CurationState,
        encoder: Encoder,
        model: torch.nn.Module,
        dataset: PairDataset,
        collator: PairCollator,
    ):
        self.args = args
        self.state = state
        self.encoder = encoder
        self.dataset = dataset
        self.collator = collator
        self.pairs_scored = 0
        self.reuses_scores = args.score_image_size is None and embeds_alike_in_training(model)

    def choose(
        self, model: torch.nn.Module, batch: dict[str, Tensor], rows: Tensor, lengths: Tensor, number: int
    ) -> tuple[dict[str, Tensor], Tensor, tuple[Tensor, Tensor] | None]:
        """Choose from a super-batch, of which this process holds a part, and return this process's kept pairs.

        The kept pairs are spread evenly over the processes: every process sends those of its part to all others (grey
        uint8 pixels and tokens: 0.14 MB a pair at 378 px), and takes its share of ceil(kept / processes).

        Args:
            model: the towers, unwrapped.
            batch: of the collator, on the device.
            rows, lengths: [b] row of each pair and tokens of its text, on the CPU.
            number: of the batch in the run; with the seed it decides all random choices.

        Returns:
            the kept batch ("valid" is False for rows that only fill up, so that all processes have equally many), the
            lengths of its texts, and their embeddings if training would give the same ones.

        Raises:
            NonFiniteError: features are NaN or infinite, and `on_nonfinite` is "stop" or hardly any are finite.
        """
        generator = torch.Generator().manual_seed(self.args.seed * 1_000_003 + number)
        device = batch["pixel_values"].device
        about = gather_uneven(torch.stack([rows, lengths], dim=1).to(device)).cpu()
        all_rows, all_lengths = about.unbind(dim=1)
        embeds = features = None
        if self.args.selection in SELECTION_RULES:
            share_buffers(model)
            embeds = self.score(model, batch, lengths)
            counts = [part.stop - part.start for part in slices(len(all_rows))]
            features = gather_uneven(pair_features(*embeds), counts)
            selection = self._select(model, features, all_rows, generator, number)
        else:
            selection = select_random(len(all_rows), self.args.keep_share, generator)
        self.state.record(all_rows, selection, features)
        share = self._exchange(batch, selection.kept.cpu(), all_lengths, embeds if self.reuses_scores else None)
        cached = (share.pop("image_embeds"), share.pop("text_embeds")) if "image_embeds" in share else None
        return share, share.pop("lengths"), cached

    def score(self, model: torch.nn.Module, batch: dict[str, Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Image and text embeddings [b, D] of this process's pairs, without gradient and without dropout."""
        with evaluation_mode(model):
            return self.encoder.embed_all(model, batch, lengths, self.args.score_image_size)

    def _select(self, model, features: Tensor, rows: Tensor, generator: torch.Generator, number: int) -> Selection:
        """Select from a scored super-batch by the rule, and move the prototypes towards what was kept."""
        state = self.state
        if state.prototypes is None:
            state.prototypes = self._initial_prototypes(model)
            state.usage = torch.zeros(len(state.prototypes), device=features.device)
            state.start_cosine = torch.tensor(mean_pairwise_cosine(state.prototypes))
        self.pairs_scored += len(rows)
        finite = torch.isfinite(features).all(dim=1)
        if not finite.all():
            self._report_nonfinite(rows[~finite.cpu()], number)
        selection = self._select_finite(features, finite, generator)
        agree(selection.roles)
        kept = features[selection.kept]
        state.prototypes, usage = update_prototypes(
            kept,
            state.prototypes,
            self.args.prototype_momentum,
            self.args.sinkhorn_temperature,
            self.args.sinkhorn_iterations,
        )
        agree(state.prototypes)
        state.usage += usage
        return selection

    def _select_finite(self, features: Tensor, finite: Tensor, generator: torch.Generator) -> Selection:
        """The rule on the pairs with finite features; the others are outliers."""
        rule = SELECTION_RULES[self.args.selection]
        constants = self.args.rule_constants()
        if finite.all():
            return rule(features, self.state.prototypes, self.args.keep_share, generator, **constants)
        if finite.sum() < 2:
            raise NonFiniteError("hardly a pair of the super-batch has finite features, so none is chosen")
        part = rule(features[finite], self.state.prototypes, self.args.keep_share, generator, **constants)
        roles = torch.full((len(features),), int(Role.OUTLIER), dtype=torch.int8, device=features.device)
        clusters = torch.full((len(features),), -1, dtype=torch.int64, device=features.device)
        distances = torch.full((len(features),), torch.nan, device=features.device)
        roles[finite], clusters[finite], distances[finite] = part.roles, part.clusters, part.distances
        return Selection(roles, clusters, distances)

    def _report_nonfinite(self, rows: Tensor, number: int) -> None:
        names = self.dataset.record_ids(rows[:10].tolist())
        what = f"batch {number}: {len(rows)} pairs have NaN or infinite features, the first: {names}"
        if self.args.on_nonfinite == "stop":
            raise NonFiniteError(what)
        if rank() == 0:
            print(f"{what}: they are left out as outliers")

    def _initial_prototypes(self, model: torch.nn.Module) -> Tensor:
        """K-means on the features of a random sample of the whole corpus, alike on all processes."""
        order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(self.args.seed))
        features = self.embed_rows(model, order[: self.args.prototype_sample_size], "starting prototypes")
        finite = torch.isfinite(features).all(dim=1)
        if not finite.any():
            raise NonFiniteError("no pair that the prototypes could start from has finite features")
        features = features[finite]
        return agree(kmeans_prototypes(features, self.args.num_prototypes).to(self.args.device))

    def embed_rows(
        self, model: torch.nn.Module, rows: Tensor, title: str, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Features [n, 2 D] of `rows` [n] of the corpus, on the CPU of all processes; each embeds its slice."""
        local = Subset(self.dataset, rows[local_slice(len(rows))].tolist())
        loader = DataLoader(
            local,
            batch_size=max(1, self.args.super_batch_size // world_size()),
            sampler=SequentialSampler(local),
            collate_fn=self.collator,
            num_workers=self.args.dataloader_num_workers,
            # Of its own: the random numbers of training must not depend on whether this was done.
            generator=torch.Generator(),
        )
        # Processes may have different numbers of batches: nothing in the loop may wait for the others.
        share_buffers(model)
        parts = [torch.empty(0, 2 * model.config.projection_dim, dtype=dtype)]
        for batch in progress(loader, desc=title, unit=" batches", disable=self.args.disable_tqdm or rank() > 0):
            _, lengths = batch.pop("rows"), batch.pop("lengths")
            batch = {name: tensor.to(self.args.device) for name, tensor in batch.items()}
            parts.append(pair_features(*self.score(model, batch, lengths)).to("cpu", dtype))
        self.pairs_scored += len(rows)
        return gather_to_cpu(torch.cat(parts), self.args.device)

    def choose_offline(self, model: torch.nn.Module) -> None:
        """Choose from the whole corpus at once by `select_semdedup`, on features of the model as it is now."""
        rows = torch.arange(len(self.dataset))
        features = self.embed_rows(model, rows, "embedding the corpus", torch.float16)
        finite = torch.isfinite(features).all(dim=1)
        if not finite.all():
            self._report_nonfinite(rows[~finite], 0)
        roles = torch.full((len(rows),), int(Role.OUTLIER), dtype=torch.int8)
        clusters = torch.full((len(rows),), -1, dtype=torch.int64)
        distances = torch.full((len(rows),), torch.nan)
        if rank() == 0:
            count = -(-len(rows) // self.args.semdedup_cluster_size)
            chosen = select_semdedup(features[finite], self.args.keep_share, count, self.args.seed)
            roles[finite], clusters[finite], distances[finite] = chosen.roles, chosen.clusters, chosen.distances
        roles = agree(roles.to(self.args.device)).cpu()
        self.state.record(rows, Selection(roles, clusters, distances), features)

    def _exchange(
        self, batch: dict[str, Tensor], kept: Tensor, lengths: Tensor, embeds: tuple[Tensor, Tensor] | None
    ) -> dict[str, Tensor]:
        """All processes' kept pairs, and of them this process's even share, with the lengths of its texts.

        Args:
            kept, lengths: [B] of the whole super-batch, on the CPU.
        """
        parts = slices(len(kept))
        counts = [int(kept[part].sum()) for part in parts]
        index = kept[parts[rank()]].nonzero().squeeze(1).to(batch["pixel_values"].device)
        batch = {name: tensor[index] for name, tensor in self._same_shapes(batch, lengths).items()}
        if embeds is not None:
            batch |= {"image_embeds": embeds[0][index], "text_embeds": embeds[1][index]}
        share, valid = even_share({name: gather_uneven(tensor, counts) for name, tensor in batch.items()})
        # On the CPU, where they are counted without waiting for the device.
        return {**share, "valid": valid, "lengths": even_share({"lengths": lengths[kept]})[0]["lengths"]}

    def _same_shapes(self, batch: dict[str, Tensor], lengths: Tensor) -> dict[str, Tensor]:
        """The batch with as many colour channels and text columns as that of any other process."""
        if world_size() == 1:
            return batch
        pixels = batch["pixel_values"]
        channels = torch.tensor(pixels.shape[1], device=pixels.device)
        # One process may hold a colour image where another holds grey films only.
        dist.all_reduce(channels, op=dist.ReduceOp.MAX)
        width = self.encoder.padded(lengths)
        texts = {name: tensor for name, tensor in batch.items() if tensor.ndim == 2}
        texts = {name: torch.nn.functional.pad(tensor, (0, width - tensor.shape[1])) for name, tensor in texts.items()}
        return {**batch, **texts, "pixel_values": pixels.expand(-1, int(channels), -1, -1)}
