"""The prompt of report generation, and the processor that puts it around a film."""

from transformers import AddedToken, LlavaProcessor

IMAGE_TOKEN = "<image>"
INSTRUCTION = "Write the findings and the impression of this chest X-ray."
#: What stands for a view that is not known in the record schema.
UNKNOWN_VIEW = "UNKNOWN"
# The turns of LLaVA 1.5; a message is a text, or a list of images and texts.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ message['role'] | upper }}: {% if message['content'] is string %}{{ message['content'] }}{% else -%}
{%- for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor -%}
{%- for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor -%}
{%- endif -%}
{%- if not loop.last or message['role'] == 'user' %}{{ '\\n' }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}ASSISTANT:{% endif -%}"""


def report_prompt(indication: str | None = None, view: str | None = None) -> str:
    """The instruction to write a report, with the view and the indication where they are known.

    Blank values are left out, and so is the view "UNKNOWN". Line breaks become spaces.

    >>> report_prompt("Cough.", "PA")
    'Write the findings and the impression of this chest X-ray. View: PA. Indication: Cough.'
    """
    view, indication = (" ".join((text or "").split()).rstrip(".") for text in (view, indication))
    parts = [INSTRUCTION]
    if view and view.upper() != UNKNOWN_VIEW:
        parts.append(f"View: {view}.")
    if indication:
        parts.append(f"Indication: {indication}.")
    return " ".join(parts)


def chat_prompt(processor, text: str | None = None) -> str:
    """What a model is given before it writes: an image and `text` in the chat template of `processor`.

    `text` is `report_prompt()` by default. Raises ValueError where the processor has no chat template.
    """
    if not processor.chat_template:
        raise ValueError("the processor has no chat template: give a prompt with its token of the image")
    content = [{"type": "image"}, {"type": "text", "text": report_prompt() if text is None else text}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def prepare_tokenizer(tokenizer):
    """Add the token of the image to a tokenizer and make it pad on the left, in place; returned for convenience.

    Raises:
        ValueError: it has no token that ends a text, or it puts that token behind every prompt.
    """
    if tokenizer.eos_token is None:
        raise ValueError("the tokenizer has no end-of-text token: a report would never end")
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    if tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id:
        raise ValueError("the tokenizer ends every text, so a prompt could not be continued: switch its ending off")
    return tokenizer


def report_processor(image_processor, tokenizer, map_side: int) -> LlavaProcessor:
    """The processor of a report model whose tower makes `map_side` x `map_side` patches of an image.

    Args:
        image_processor: a `CheXficientImageProcessor`.
        tokenizer: see `prepare_tokenizer`.

    Raises:
        ValueError: the image size does not divide so that as many tokens as patches come out.
    """
    size = image_processor.size["shortest_edge"]
    patch_size = size // map_side
    if size // patch_size != map_side:
        raise ValueError(
            f"a map of {map_side} x {map_side} does not divide images of {size} px: choose an image_size that is a "
            f"multiple of {map_side}"
        )
    return LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        image_token=IMAGE_TOKEN,
        chat_template=CHAT_TEMPLATE,
    )


def image_token_count(processor) -> int:
    """How many tokens of the prompt an image takes."""
    return (processor.image_processor.size["shortest_edge"] // processor.patch_size) ** 2


__all__ = ["chat_prompt", "image_token_count", "prepare_tokenizer", "report_processor", "report_prompt"]
