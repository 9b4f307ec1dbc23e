"""The processor of CheXficient: an image processor and a tokenizer behind one call."""

import inspect
from typing import Any

from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, TextKwargs
from transformers.utils import cached_file

from .image_processing_chexficient import CheXficientImageProcessor

# The published model reads at most 256 tokens of a report.
MAX_TOKENS = 256
# One of them is in every folder that holds a tokenizer.
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "vocab.txt", "spiece.model", "vocab.json")
FILE_ARGUMENTS = ("cache_dir", "force_download", "proxies", "token", "revision", "local_files_only", "subfolder")
GROUPS = ("common_kwargs", "text_kwargs", "images_kwargs")


class CheXficientProcessorKwargs(ProcessingKwargs, total=False):
    """Options of a call, and what they are by default."""

    _defaults = {  # type: ignore[misc]  # noqa: RUF012 (read by transformers)
        "text_kwargs": {"padding": True, "truncation": True},
        "common_kwargs": {"return_tensors": "pt"},
    }


class CheXficientProcessor(ProcessorMixin):
    """Prepare images and texts for `CheXficientModel`.

    Args:
        image_processor: a `CheXficientImageProcessor`.
        tokenizer: the tokenizer of the text tower.
    """

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):  # type: ignore[override]
        """Load as every processor of transformers; of a folder of a head, which has no tokenizer, its image processor.

        `AutoProcessor` comes here with any folder of a CheXficient configuration.
        """
        place = {name: kwargs[name] for name in FILE_ARGUMENTS if name in kwargs}
        quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
        if kwargs.get("_from_auto") and not any(
            cached_file(pretrained_model_name_or_path, name, **place, **quiet) for name in TOKENIZER_FILES
        ):
            return CheXficientImageProcessor.from_pretrained(pretrained_model_name_or_path, **place)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def __call__(self, images=None, text: str | list[str] | None = None, **kwargs) -> BatchFeature:
        """Prepare images, texts or both.

        Args:
            images: one image, path of a film or a list, as `CheXficientImageProcessor` takes them.
            text: one text or a list of texts.
            kwargs: options of the image processor (`size`, `do_resize`, `do_normalize`, `image_mean`, `image_std`) and
                of the tokenizer, given as they are or grouped in `images_kwargs`, `text_kwargs` and `common_kwargs`
                (for both). By default texts are padded to the longest and truncated to 256 tokens, or to what the
                tokenizer allows if that is less, and `return_tensors="pt"`.

        Returns:
            `pixel_values` [images, 3, size, size] and the tokenizer's output, [texts, tokens] each: `input_ids`,
            `attention_mask` and, from a BERT tokenizer, `token_type_ids`.

        Raises:
            ValueError: neither images nor texts, no text in the list, a blank text (its position is named), or an
                option given twice.
            TypeError: an option that neither the image processor nor the tokenizer knows.
        """
        if images is None and text is None:
            raise ValueError("Pass images, text, or both")
        self._refuse_unknown(kwargs)
        init_kwargs = {} if self.tokenizer is None else self.tokenizer.init_kwargs
        # Transformers takes the class, and annotates an object of it.
        defaults: Any = CheXficientProcessorKwargs
        options = self._merge_kwargs(defaults, tokenizer_init_kwargs=init_kwargs, **kwargs)
        data: dict[str, Any] = {}
        if text is not None:
            text_options = options["text_kwargs"]
            if text_options.get("max_length") is None:
                text_options["max_length"] = min(MAX_TOKENS, self.tokenizer.model_max_length)
            data.update(self.tokenizer(_text_list(text), **text_options))
        if images is not None:
            data.update(self.image_processor(images, **options["images_kwargs"]))
        return BatchFeature(data)

    def _refuse_unknown(self, kwargs: dict[str, Any]) -> None:
        """Raise TypeError for options that would have no effect; transformers itself ignores them with a warning."""
        of_images = set(inspect.signature(self.image_processor.preprocess).parameters) - {"images"}
        of_texts = set(TextKwargs.__annotations__)
        known = {
            "common_kwargs": of_images & of_texts,
            "text_kwargs": of_texts,
            "images_kwargs": of_images,
        }
        given = [(name, of_images | of_texts) for name in kwargs if name not in GROUPS]
        given += [(name, known[group]) for group in GROUPS for name in kwargs.get(group) or {}]
        unknown = sorted({name for name, allowed in given if name not in allowed})
        if unknown:
            raise TypeError(
                f"CheXficientProcessor takes no {', '.join(unknown)}: options of images are "
                f"{', '.join(sorted(of_images))}, those of texts the tokenizer's"
            )


def _text_list(text: str | list[str]) -> list[str]:
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise ValueError("The list of texts is empty")
    blank = [n for n, entry in enumerate(texts) if not isinstance(entry, str) or not entry.strip()]
    if blank:
        raise ValueError(f"Blank or missing text at position {', '.join(map(str, blank))}")
    return texts


__all__ = ["CheXficientProcessor"]
