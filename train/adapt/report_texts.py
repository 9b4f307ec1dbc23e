"""Prompts and reports as tokens: what a language model is given, and what it is to write."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from transformers import LlavaProcessor

from data_scripts.schema import DataError
from modeling_chexficient.prompts_chexficient import chat_prompt, image_token_count, report_prompt

#: Targets that are not learnt (of transformers' losses).
IGNORED = -100
#: Reports that are measured together.
_CHUNK = 4096


class ReportEncoder:
    """Prompt, image and report of a film as tokens.

    Args:
        processor: of a report model, with its chat template.
        max_text_length: longest report in tokens, its end included.
        positions: of the language model; None: it has no limit.
    """

    def __init__(self, processor: LlavaProcessor, max_text_length: int, positions: int | None):
        self.tokenizer = processor.tokenizer
        self.image_token, self.images = processor.image_token, processor.image_token * image_token_count(processor)
        self.max_text_length, self.positions = max_text_length, positions
        # Few prompts differ, and rendering a template takes longer than all the rest.
        self.prompt = lru_cache(maxsize=1024)(lambda *known: chat_prompt(processor, report_prompt(*known)))

    def encode(self, film: dict) -> tuple[list[int], list[int]]:
        """Token ids of prompt with image, and of report with its end.

        A report that was cut has no end: the model shall not learn to stop in mid-sentence.

        Raises:
            DataError: the report is empty, or all together are longer than the language model's positions; the row is
                named.
        """
        report, prompt = film["report"], self.prompt(film.get("indication"), film.get("view"))
        if not (report or "").strip():
            raise DataError(f"row {film['row']} has an empty report: leave it out")
        if prompt.count(self.image_token) != 1 or self.image_token in report:
            raise DataError(f"row {film['row']}: a text holds {self.image_token!r}, which stands for the image")
        prompt = prompt.replace(self.image_token, self.images)
        before = self.tokenizer(prompt)["input_ids"]
        # Both at once, as a tokenizer may treat the beginning of a text in its own way.
        together = self.tokenizer(f"{prompt} {report.strip()}")["input_ids"]
        if together[: len(before)] != before:
            raise DataError(f"row {film['row']}: the tokenizer joins the end of the prompt with the report")
        written = [*together[len(before) :], self.tokenizer.eos_token_id][: self.max_text_length]
        if self.positions is not None and len(before) + len(written) > self.positions:
            raise DataError(
                f"row {film['row']}: {len(before)} tokens of image and prompt and {len(written)} of the report are "
                f"more than the {self.positions} positions of the language model: lower max_text_length"
            )
        return before, written

    def count_long(self, reports: Sequence[str]) -> int:
        """How many reports are cut."""
        chunks = (reports[start : start + _CHUNK] for start in range(0, len(reports), _CHUNK))
        lengths = [
            len(ids) + 1
            for chunk in chunks
            for ids in self.tokenizer([f" {text.strip()}" for text in chunk], add_special_tokens=False)["input_ids"]
        ]
        return sum(length > self.max_text_length for length in lengths)


def pad_texts(texts: Sequence[tuple[list[int], list[int]]], pad: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels` [B, longest] of pairs (prompt, report) of token ids."""
    longest = max(len(prompt) + len(report) for prompt, report in texts)
    ids = torch.full((len(texts), longest), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (prompt, report) in enumerate(texts):
        end = len(prompt) + len(report)
        ids[row, :end] = torch.tensor(prompt + report)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(report)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
