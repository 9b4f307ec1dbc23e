"""Choosing from super-batches while training: score, select, remember, and hand the kept pairs out evenly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, SequentialSampler, Subset

from data_scripts.prepared.films import PairDataset
from data_scripts.progress import progress
from train.objectives.batch import PairBatch
from train.objectives.encoding import Encoder, pair_features
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

#: Attributes by which modules hold a probability of dropping: `nn.Dropout` the first, those of transformers the others.
_DROP_ATTRIBUTES = ("p", "dropout", "attention_dropout", "dropout_prob", "drop_prob")


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
    before = _what_drops(model) if active else []
    for module, name, _ in before:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def has_dropout(model: torch.nn.Module) -> bool:
    """Whether anything is dropped in training. Which values, is drawn by each process for its own pairs in their order,
    so plain training then depends on the number of processes; curation itself does not (`without_dropout`).
    """
    return bool(_what_drops(model))


def _what_drops(model: torch.nn.Module) -> list[tuple[torch.nn.Module, str, float]]:
    """Modules with the attribute that holds their probability of dropping, where that is above 0."""
    places = [(module, name, getattr(module, name, None)) for module in model.modules() for name in _DROP_ATTRIBUTES]
    return [(module, name, value) for module, name, value in places if isinstance(value, float) and value > 0]


def embeds_alike_in_training(model: torch.nn.Module) -> bool:
    """Whether training mode `without_dropout` gives the embeddings of evaluation mode: not with batch normalisation."""
    return not any(isinstance(module, _BatchNorm) for module in model.modules())


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
        self.reuses_scores = args.score_image_size is None and embeds_alike_in_training(model)

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
        generator = torch.Generator().manual_seed(self.args.seed * 1_000_003 + number)
        about = gather_uneven(torch.stack([batch.rows, batch.lengths], dim=1).to(batch.device)).cpu()
        all_rows, all_lengths = about.unbind(dim=1)
        known = {name: values[all_rows] for name, values in self.known.items()}
        embeds, pairs = None, Candidates(all_rows, known=known)
        if self.args.rule.scores:
            share_buffers(model)
            counts = [part.stop - part.start for part in slices(len(all_rows))]
            # Equally many on all processes, since a sharded model gathers its weights in every forward pass.
            filled = batch
            if len(batch) < counts[0]:
                filled = batch.select(torch.arange(counts[0]).clamp(max=len(batch) - 1))
            images, texts = self.score(model, filled)
            embeds = images[: len(batch)], texts[: len(batch)]
            image_embeds, text_embeds = gather_uneven(torch.cat(embeds, dim=1), counts).chunk(2, dim=1)
            pairs = Candidates(all_rows, image_embeds, text_embeds, self._prototypes(model), known)
            self.pairs_scored += len(all_rows)
        selection = self._select(pairs, generator, number)
        self.state.record(all_rows, selection, pairs.features)
        cached = embeds if self.reuses_scores else None
        return self._exchange(batch, selection.kept.cpu(), all_rows, all_lengths, cached)

    def score(self, model: torch.nn.Module, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Image and text embeddings [b, D] of this process's pairs, without gradient and without dropout."""
        with evaluation_mode(model):
            return self.encoder.embed_all(model, batch, self.args.score_image_size)

    def _select(self, pairs: Candidates, generator: torch.Generator, number: int) -> Selection:
        """Select from a super-batch by the rule, and move the prototypes, if there are any, towards what was kept."""
        finite = self._finite(pairs, number)
        selection = self._apply_rule(pairs, finite, generator)
        if pairs.features is not None:
            agree(selection.roles)
        if pairs.prototypes is not None:
            self._move_prototypes(pairs.features[selection.kept])
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
        return Selection(**whole)

    def _prototypes(self, model: torch.nn.Module) -> Tensor | None:
        """The prototypes as they are now, initialised at first use; None where the rule has none."""
        state = self.state
        if self.args.rule.uses_prototypes and state.prototypes is None:
            state.prototypes = self._initial_prototypes(model)
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
        pairs = Candidates(rows, known=self.known)
        if self.args.rule.scores:
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
        self,
        batch: PairBatch,
        kept: Tensor,
        rows: Tensor,
        lengths: Tensor,
        embeds: tuple[Tensor, Tensor] | None,
    ) -> tuple[PairBatch, tuple[Tensor, Tensor] | None]:
        """This process's even share of all processes' kept pairs, and of their embeddings where they are given.

        Args:
            kept, rows, lengths: [B] of the whole super-batch, on the CPU.
            embeds: image and text embeddings [b, D] of this process's part.
        """
        parts = slices(len(kept))
        counts = [int(kept[part].sum()) for part in parts]
        own = kept[parts[rank()]].nonzero().squeeze(1).to(batch.device)
        share, valid = even_share(sum(counts))

        def exchange(tensor: Tensor) -> Tensor:
            return gather_uneven(tensor, counts)[share.to(tensor.device)]

        exchanged = self._same_shapes(batch, lengths).select(own).map_device(exchange)
        # All processes know these values of all pairs, so they are not exchanged.
        exchanged = replace(exchanged, rows=rows[kept][share], lengths=lengths[kept][share], valid=valid)
        return exchanged, None if embeds is None else (exchange(embeds[0][own]), exchange(embeds[1][own]))

    def _same_shapes(self, batch: PairBatch, lengths: Tensor) -> PairBatch:
        """The batch with as many colour channels and text columns as that of any other process."""
        if world_size() == 1:
            return batch
        # One process may hold a colour image where another holds grey films only.
        channels = torch.tensor(batch.pixel_values.shape[1], device=batch.device)
        dist.all_reduce(channels, op=dist.ReduceOp.MAX)
        return batch.with_channels(int(channels)).with_text_width(self.encoder.padded(lengths))
