"""Models that write reports, of the kind "image-text-to-text" of transformers (LLaVA and its relatives)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from eval.models.encoders import EvaluationModel
from modeling_chexficient import CheXficientImageProcessor, to_eight_bit
from modeling_chexficient.base_identity_chexficient import commit_of, weights_sha256
from modeling_chexficient.image_processing_chexficient_pixels import mark_as_scaled
from modeling_chexficient.prompts_chexficient import chat_prompt
from modeling_chexficient.texts_chexficient import longest_text


class ReportGenerator(EvaluationModel):
    """Writes reports, and embeds images with its own vision tower (for the nearest-neighbour baseline).

    Args:
        generator: the whole model.
        processor: its processor, with a tokenizer that pads on the left.
        prompt: the text before the report, with the processor's token of the image; default: its chat template around
            `report_prompt`.
        max_new_tokens: longest report.

    Raises:
        ValueError: there is neither chat template nor `prompt`.
    """

    def __init__(
        self,
        generator: PreTrainedModel,
        processor,
        prompt: str | None = None,
        max_new_tokens: int = 256,
        **names,
    ):
        self.generator, self.processor, self.max_new_tokens = generator, processor, max_new_tokens
        self.takes_prompts = prompt is None
        self.prompt = chat_prompt(processor) if prompt is None else prompt
        # Reports are continued from the end of the prompt.
        processor.tokenizer.padding_side = "left"
        super().__init__(generator, processor.image_processor, **names)

    @property
    def tower(self) -> nn.Module:
        return self.generator.base_model.vision_tower

    @torch.no_grad()
    def generate(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[str]:
        """A report for each image, without sampling: the same images give the same reports.

        The search is greedy, or with as many beams as the model's generation configuration says.

        Args:
            prompts: what is asked about each image, as `report_prompt(indication, view)` makes it; default: the
                instruction alone. A generator with a prompt of its own asks all images the same.

        Raises:
            ValueError: the prompt leaves no positions of the language model for a report.
        """
        texts = [self.prompt] * len(images)
        if prompts is not None and self.takes_prompts:
            rendered = {text: chat_prompt(self.processor, text) for text in set(prompts)}
            texts = [rendered[text] for text in prompts]
        inputs = self.processor(images=self._prepare(images), text=texts, padding=True, return_tensors="pt")
        inputs = inputs.to(self.device, self.generator.dtype)
        length = inputs["input_ids"].shape[1]
        tokens = self.generator.generate(**inputs, do_sample=False, max_new_tokens=self._new_tokens(length))
        return [text.strip() for text in self.processor.batch_decode(tokens[:, length:], skip_special_tokens=True)]

    def _prepare(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        if isinstance(self.image_processor, CheXficientImageProcessor):
            return list(images)
        return [mark_as_scaled(to_eight_bit(image)).convert("RGB") for image in images]

    def _new_tokens(self, length: int) -> int:
        """As many tokens as may be written behind a prompt of `length` tokens."""
        positions = longest_text(self.generator.config.get_text_config())
        if positions is None:
            return self.max_new_tokens
        if length >= positions:
            raise ValueError(
                f"{self.name}: image and prompt take {length} tokens, which leaves none of the {positions} positions "
                "of the language model for a report: shorten the indication"
            )
        return min(self.max_new_tokens, positions - length)


def load_report_generator(name: str, prompt: str | None = None, **loading) -> ReportGenerator:
    """Load a folder or Hub id of an image-text-to-text model in fp32, in evaluation mode, on the CPU.

    Args:
        prompt: see `ReportGenerator`.
        loading: for `from_pretrained`, such as `revision` and `trust_remote_code`.

    Raises:
        OSError: there is no such model.
        ValueError: it is of another kind, or has neither chat template nor `prompt`.
    """
    generator = AutoModelForImageTextToText.from_pretrained(name, dtype=torch.float32, **loading).eval()
    processor = AutoProcessor.from_pretrained(name, **loading)
    revision = commit_of(name, loading.get("revision")) or loading.get("revision")
    names = {"name": name, "revision": revision, "sha256": weights_sha256(name, revision)}
    return ReportGenerator(generator, processor, prompt, **names)
