"""Models that write reports, of the kind "image-text-to-text" of transformers (LLaVA and its relatives)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from eval.models import EvaluationModel
from eval.provenance import weights_sha256
from modeling_chexficient import to_eight_bit

INSTRUCTION = "Write the findings and the impression of this chest X-ray."


class ReportGenerator(EvaluationModel):
    """Writes reports, and embeds images with its own vision tower (for the nearest-neighbour baseline).

    Args:
        generator: the whole model.
        processor: its processor, with a tokenizer that pads on the left.
        prompt: the text before the report, with the processor's token of the image; default: its chat template around
            `INSTRUCTION`.
        max_new_tokens: longest report.
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
        self.prompt = _chat(processor) if prompt is None else prompt
        # Reports are continued from the end of the prompt.
        processor.tokenizer.padding_side = "left"
        super().__init__(generator, processor.image_processor, **names)

    @property
    def tower(self) -> nn.Module:
        return self.generator.base_model.vision_tower

    @torch.no_grad()
    def generate(self, images: Sequence[Image.Image]) -> list[str]:
        """A report for each image, by greedy search: the same images give the same reports."""
        rgb = [to_eight_bit(image).convert("RGB") for image in images]
        inputs = self.processor(images=rgb, text=[self.prompt] * len(rgb), padding=True, return_tensors="pt")
        inputs = inputs.to(self.device, self.generator.dtype)
        tokens = self.generator.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=self.max_new_tokens)
        written = tokens[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.processor.tokenizer.batch_decode(written, skip_special_tokens=True)]


def _chat(processor) -> str:
    """The prompt that the processor's chat template makes. Raises ValueError without a template."""
    if not processor.chat_template:
        raise ValueError("the processor has no chat template: give a prompt with its token of the image")
    content = [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


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
    revision = getattr(generator.config, "_commit_hash", None) or loading.get("revision")
    return ReportGenerator(generator, processor, prompt, name=name, revision=revision, sha256=weights_sha256(name))
