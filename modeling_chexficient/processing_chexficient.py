"""The processor of CheXficient: an image processor and a tokenizer behind one call."""

from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

# The published model reads at most 256 tokens of a report.
MAX_TOKENS = 256


class CheXficientProcessor(ProcessorMixin):
    """Prepare images and texts for `CheXficientModel`.

    Args:
        image_processor: a `CheXficientImageProcessor`.
        tokenizer: the tokenizer of the text tower.
    """

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    def __call__(
        self,
        images=None,
        text: str | list[str] | None = None,
        *,
        padding: bool | str = True,
        truncation: bool | str = True,
        max_length: int | None = None,
        return_tensors: str | None = "pt",
        **tokenizer_kwargs,
    ) -> BatchFeature:
        """Prepare images, texts or both.

        Args:
            images: one image or a list, as `CheXficientImageProcessor` takes them.
            text: one text or a list of texts.
            padding, truncation, return_tensors: as for any tokenizer, by default padded to the longest text and
                truncated, as torch tensors.
            max_length: 256 tokens by default, or what the tokenizer allows if that is less.
            tokenizer_kwargs: other arguments of the tokenizer.

        Returns:
            `pixel_values` [images, 3, size, size] and the tokenizer's output, [texts, tokens] each: `input_ids`,
            `attention_mask` and, from a BERT tokenizer, `token_type_ids`.

        Raises:
            ValueError: neither images nor texts, no text in the list, or a blank text (its position is named).
        """
        if images is None and text is None:
            raise ValueError("Pass images, text, or both")
        data = {}
        if text is not None:
            data.update(
                self.tokenizer(
                    _text_list(text),
                    padding=padding,
                    truncation=truncation,
                    max_length=min(MAX_TOKENS, self.tokenizer.model_max_length) if max_length is None else max_length,
                    return_tensors=return_tensors,
                    **tokenizer_kwargs,
                )
            )
        if images is not None:
            data.update(self.image_processor(images, return_tensors=return_tensors))
        return BatchFeature(data)


def _text_list(text: str | list[str]) -> list[str]:
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise ValueError("The list of texts is empty")
    blank = [n for n, entry in enumerate(texts) if not isinstance(entry, str) or not entry.strip()]
    if blank:
        raise ValueError(f"Blank or missing text at position {', '.join(map(str, blank))}")
    return texts


__all__ = ["CheXficientProcessor"]
