"""Choosing from super-batches while training: score, select, remember, and hand the kept pairs out evenly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler, Subset

from data_scripts.prepared.films import PairDataset
from data_scripts.progress import progress
from train.objectives.batch import PairBatch
from train.objectives.encoding import Encoder, pair_features
from train.objectives.modes import evaluation_mode, has_batch_normalisation
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
from train.runs.nonfinite import NonFiniteError
from train.selection.arguments import SelectionArguments
from train.selection.outcome import Role, Selection
from train.selection.prototypes import kmeans_prototypes, mean_pairwise_cosine, update_prototypes
from train.selection.rule import Candidates
from train.selection.state import CurationState


class KnownOfAll(NamedTuple):
    """What all processes know of the pairs of a super-batch, each [B] on the CPU (see `PairBatch`)."""

    rows: Tensor
    lengths: Tensor
    text_keys: Tensor


def _known_of_all(batch: PairBatch) -> KnownOfAll:
    """Of the pairs of all processes; `batch` holds those of this one."""
    own = torch.stack([getattr(batch, name) for name in KnownOfAll._fields], dim=1)
    return KnownOfAll(*gather_uneven(own.to(batch.device)).cpu().unbind(dim=1))


def _padded(batch: PairBatch, count: int) -> PairBatch:
    """This process's part of a super-batch of `count` pairs with as many rows as the largest part has."""
    largest = slices(count)[0].stop
    index = torch.arange(largest)
    if largest == len(batch):
        return batch
    return replace(batch.select(index.clamp(max=len(batch) - 1)), valid=index < len(batch))


def choose_before(args: SelectionArguments, num_rows: int, known: Mapping[str, Tensor]) -> Selection:
    """What a rule that chooses before training keeps of the whole corpus.

    Args:
        known: [num_rows, ...] of all pairs, what the rule needs to know.
    """
    pairs, generator = Candidates(torch.arange(num_rows), known=known), torch.Generator().manual_seed(args.seed)
    return args.rule.choose(pairs, args.keep_share, generator, args.rule.constants.of(vars(args)))


class Curator:
    """Selects from the corpus by the rule of `args`, keeping `state`.

    How pairs are scored (full size, or smaller images) is decided here; a rule gets their embeddings. All processes
    select from the embeddings of all of them alike, so the kept subset does not depend on their number.

    Attributes:
        args: of the run: `SelectionArguments` that are `TrainingArguments` too.
        state, encoder, dataset: see their classes.
        collator: makes a batch of pairs.
        known: [N, ...] of all pairs, what the rule needs to know, on the CPU.
        pairs_scored: how many pairs went through the towers to be scored, over all processes.
        reuses_scores: whether scored embeddings stand for the first pass of gradient caching.
    """

    def __init__(
        self,
        args: SelectionArguments,
        state: CurationState,
        encoder: Encoder,
        model: torch.nn.Module,
        dataset: PairDataset,
        collator: Callable[[list[dict]], dict[str, Tensor]],
        known: Mapping[str, Tensor] | None = None,
    ):
        self.args = args
        self.state = state
        self.encoder = encoder
        self.dataset = dataset
        self.collator = collator
        self.known = {} if known is None else known
        self.pairs_scored = 0
        # Notes of selections that were printed.
        self._told: set[str] = set()
        self.reuses_scores = args.score_image_size is None and not has_batch_normalisation(model)

    def choose(
        self, model: torch.nn.Module, batch: PairBatch, number: int
    ) -> tuple[PairBatch, tuple[Tensor, Tensor] | None]:
        """Choose from a super-batch, of which this process holds a part, and return this process's kept pairs.

        The kept pairs are spread evenly over the processes: every process sends those of its part to all others (grey
        uint8 pixels and tokens: 0.14 MB a pair at 378 px), and takes its share of ceil(kept / processes).

        Args:
            model: the towers, unwrapped.
            batch: of the collator, on the device.
            number: of the batch in the run; with the seed it decides all random choices.

        Returns:
            the kept batch, with padding rows so that all processes have equally many, and its embeddings if training
            would give the same ones.

        Raises:
            NonFiniteError: features are NaN or infinite, and `on_nonfinite` is "stop" or hardly any are finite.
        """
        everyone, embeds = _known_of_all(batch), None
        if self.args.rule.scores:
            share_buffers(model)
            # Equally many on all processes, since a sharded model gathers its weights in every forward pass.
            images, texts = self.score(model, _padded(batch, len(everyone.rows)))
            embeds = images[: len(batch)], texts[: len(batch)]
            self.pairs_scored += len(everyone.rows)
        kept = self._select(everyone.rows, embeds, number).kept.cpu()
        return self._exchange(batch, kept, everyone, embeds if self.reuses_scores else None)

    def whole(self, batch: PairBatch) -> PairBatch:
        """This process's part of a super-batch to train on in whole, with a padding row where others have one more."""
        return _padded(batch, len(_known_of_all(batch).rows))

    def choose_while_training(self, batch: PairBatch, images: Tensor, texts: Tensor, number: int) -> None:
        """Choose from a super-batch that is trained on in whole, by the embeddings of that step: nothing is scored.

        Args:
            batch: of `whole`.
            images, texts: [b, D] fp32, its embeddings.
            number: as for `choose`.

        Raises:
            NonFiniteError: as `choose` does.
        """
        own = int(batch.valid.sum())
        rows = _known_of_all(batch.select(torch.arange(own))).rows
        self._select(rows, (images[:own], texts[:own]) if self.args.rule.scores else None, number)

    def score(self, model: torch.nn.Module, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Image and text embeddings [b, D] of this process's pairs, without gradient and without dropout."""
        with evaluation_mode(model):
            return self.encoder.embed_all(model, batch, self.args.score_image_size)

    def _select(self, rows: Tensor, embeds: tuple[Tensor, Tensor] | None, number: int) -> Selection:
        """Select from a super-batch by the rule, note it, and move the prototypes, if there are any, towards the kept.

        Args:
            rows: [B] of all processes.
            embeds: image and text embeddings [b, D] of this process's part; None where the rule needs none.
        """
        known = {name: values[rows] for name, values in self.known.items()}
        pairs = Candidates(rows, known=known)
        if embeds is not None:
            counts = [part.stop - part.start for part in slices(len(rows))]
            both = gather_uneven(torch.cat(embeds, dim=1), counts)
            pairs = Candidates(rows, *both.chunk(2, dim=1), known=known)
        finite = self._finite(pairs, number)
        if self.args.rule.uses_prototypes:
            features = pairs.features if finite is None else pairs.features[finite]
            pairs = replace(pairs, prototypes=self._prototypes(features))
        generator = torch.Generator().manual_seed(self.args.seed * 1_000_003 + number)
        selection = self._apply_rule(pairs, finite, generator)
        if selection.note is not None and selection.note not in self._told and rank() == 0:
            self._told.add(selection.note)
            print(f"batch {number}: {selection.note}")
        if pairs.features is not None:
            agree(selection.roles)
        if pairs.prototypes is not None:
            self._move_prototypes(pairs.features[selection.kept])
        self.state.record(rows, selection, pairs.features)
        return selection

    def _finite(self, pairs: Candidates, number: int) -> Tensor | None:
        """[B] bool: whose features are finite; None where all are, or there are none.

        Raises:
            NonFiniteError: on all processes, where some are not and this is not wanted, or hardly any are.
        """
        finite = None if pairs.features is None else torch.isfinite(pairs.features).all(dim=1)
        if finite is None or finite.all():
            return None
        self._report_nonfinite(pairs.rows[~finite.cpu()], number)
        if finite.sum() < 2:
            raise NonFiniteError("hardly a pair has finite features, so none is chosen")
        return finite

    def _apply_rule(self, pairs: Candidates, finite: Tensor | None, generator: torch.Generator) -> Selection:
        """The rule on the pairs with `finite` features; the others are outliers, of no cluster."""
        rule, keep_share = self.args.rule, self.args.keep_share
        constants = rule.constants.of(vars(self.args))
        if finite is None:
            return rule.choose(pairs, keep_share, generator, constants)
        part = rule.choose(pairs.subset(finite), keep_share, generator, constants)
        whole = {}
        for name, blank in (("roles", int(Role.OUTLIER)), ("clusters", -1), ("distances", torch.nan)):
            values = getattr(part, name)
            if values is not None:
                whole[name] = values.new_full((len(pairs),), blank)
                whole[name][finite.to(values.device)] = values
        return Selection(**whole, note=part.note)

    def _prototypes(self, features: Tensor) -> Tensor:
        """The prototypes as they are now; they start by k-means on the features [B, 2 D] of the first super-batch, as
        published: nothing is embedded for that alone.
        """
        state = self.state
        if state.prototypes is None:
            state.prototypes = agree(kmeans_prototypes(features, self.args.num_prototypes))
            state.usage = torch.zeros(len(state.prototypes), device=state.prototypes.device)
            state.start_cosine = torch.tensor(mean_pairwise_cosine(state.prototypes))
        return state.prototypes

    def _move_prototypes(self, kept: Tensor) -> None:
        """Move the prototypes towards the features `kept` [n, 2 D]."""
        args, state = self.args, self.state
        state.prototypes, usage = update_prototypes(
            kept, state.prototypes, args.prototype_momentum, args.sinkhorn_temperature, args.sinkhorn_iterations
        )
        agree(state.prototypes)
        state.usage += usage

    def _report_nonfinite(self, rows: Tensor, number: int) -> None:
        names = self.dataset.record_ids(rows[:10].tolist())
        what = f"batch {number}: {len(rows)} pairs have NaN or infinite features, the first: {names}"
        if self.args.on_nonfinite == "stop":
            raise NonFiniteError(what)
        if rank() == 0:
            print(f"{what}: they are left out as outliers")

    def embed_rows(
        self,
        model: torch.nn.Module,
        rows: Tensor,
        title: str,
        joined: Callable[[Tensor, Tensor], Tensor] = pair_features,
    ) -> Tensor:
        """Features [n, 2 D] fp32 of `rows` [n] of the corpus, on the CPU of all processes; each embeds its slice.

        Args:
            joined: makes them of image and text embeddings.
        """
        own = rows[local_slice(len(rows))]
        # Equally many on all processes, since a sharded model gathers its weights in every forward pass.
        missing = slices(len(rows))[0].stop - len(own)
        local = Subset(self.dataset, [*own.tolist(), *rows[:missing].tolist()])
        loader = DataLoader(
            local,
            batch_size=max(1, self.args.super_batch_size // world_size()),
            sampler=SequentialSampler(local),
            collate_fn=self.collator,
            num_workers=self.args.dataloader_num_workers,
            # A generator of its own: the random numbers of training must not depend on whether this was done.
            generator=torch.Generator(),
        )
        share_buffers(model)
        parts = []
        for batch in progress(loader, desc=title, unit=" batches", disable=self.args.disable_tqdm or rank() > 0):
            parts.append(joined(*self.score(model, batch.to(self.args.device))).to("cpu", torch.float32))
        self.pairs_scored += len(rows)
        return gather_to_cpu(torch.cat(parts)[: len(own)], self.args.device)

    def choose_offline(self, model: torch.nn.Module) -> None:
        """Choose from the whole corpus at once, on embeddings of the model as it is now if the rule scores pairs."""
        rows = torch.arange(len(self.dataset))
        if not self.args.rule.scores:
            self.state.record(rows, choose_before(self.args, len(rows), self.known), None)
            return
        embeds = self.embed_rows(model, rows, "embedding the corpus", lambda *both: torch.cat(both, dim=1))
        pairs = Candidates(rows, *embeds.chunk(2, dim=1), known=self.known)
        finite = self._finite(pairs, 0)
        # Rank 0 chooses for all, the other ranks wait for what it kept.
        selection = Selection(torch.full((len(rows),), int(Role.OUTLIER), dtype=torch.int8))
        if rank() == 0:
            selection = self._apply_rule(pairs, finite, torch.Generator().manual_seed(self.args.seed))
        roles = agree(selection.roles.to(self.args.device)).cpu()
        self.state.record(rows, replace(selection, roles=roles), pairs.features)

    def _exchange(
        self, batch: PairBatch, kept: Tensor, everyone: KnownOfAll, embeds: tuple[Tensor, Tensor] | None
    ) -> tuple[PairBatch, tuple[Tensor, Tensor] | None]:
        """This process's even share of all processes' kept pairs, and of their embeddings where they are given.

        Args:
            kept: [B] of the whole super-batch, on the CPU.
            everyone: what is known of its pairs.
            embeds: image and text embeddings [b, D] of this process's part.
        """
        parts = slices(len(kept))
        counts = [int(kept[part].sum()) for part in parts]
        own = kept[parts[rank()]].nonzero().squeeze(1).to(batch.device)
        share, valid = even_share(sum(counts))

        def exchange(tensor: Tensor) -> Tensor:
            return gather_uneven(tensor, counts)[share.to(tensor.device)]

        exchanged = self._same_shapes(batch, everyone.lengths).select(own).map_device(exchange)
        # All processes know these values of all pairs, so they are not exchanged.
        known = {name: values[kept][share] for name, values in everyone._asdict().items()}
        exchanged = replace(exchanged, **known, valid=valid)
        return exchanged, None if embeds is None else (exchange(embeds[0][own]), exchange(embeds[1][own]))

    def _same_shapes(self, batch: PairBatch, lengths: Tensor) -> PairBatch:
        """The batch with as many colour channels and text columns as that of any other process."""
        if world_size() == 1:
            return batch
        # One process may hold a colour image where another holds grey films only.
        channels = torch.tensor(batch.pixel_values.shape[1], device=batch.device)
        dist.all_reduce(channels, op=dist.ReduceOp.MAX)
        return batch.with_channels(int(channels)).with_text_width(self.encoder.padded(lengths))
