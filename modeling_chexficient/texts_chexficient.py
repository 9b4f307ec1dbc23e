"""Tokens of texts: where they stand in a padded row, and how their states become one feature.

Text towers count positions from the start of a row: BERT and most others with an absolute embedding would see other
positions behind padding on the left. Texts are therefore moved to the start of their rows before the tower, any tower,
and its output is moved back.
"""

import torch
from transformers import PretrainedConfig
from transformers.utils import ModelOutput

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


def longest_text(config: PretrainedConfig) -> int | None:
    """Most tokens that a text tower or language model has positions for; None where any number.

    `max_position_embeddings`; where rotary positions are scaled (linear, dynamic, YaRN, Llama 3), also as many as the
    model had before, times the factor. Before it had `original_max_position_embeddings`, where the configuration tells
    them, else `max_position_embeddings`.
    """
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or limit < 1:
        # XLNet says -1.
        return None
    rotary = getattr(config, "rope_parameters", None) or {}
    # Some models have one set of parameters for each kind of layer.
    sets = [given for given in (rotary, *rotary.values()) if isinstance(given, dict)]
    scaled = [
        (given.get("original_max_position_embeddings") or limit) * (given.get("factor") or 1)
        for given in sets
        if given.get("rope_type", "default") != "default"
    ]
    return int(max(limit, *scaled)) if scaled else limit


def pool_text(hidden: torch.Tensor, attention_mask: torch.Tensor | None, pooling: str) -> torch.Tensor:
    """Reduce token states [B, L, H] to [B, H]; `pooling` as in `CheXficientConfig.text_pooling`.

    `attention_mask` [B, L] may pad on either side; None means that every token is attended to.
    """
    if attention_mask is None:
        attention_mask = hidden.new_ones(hidden.shape[:2])
    attended = attention_mask.to(torch.bool)
    if pooling == "mean":
        weights = attended.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
    positions = torch.arange(hidden.shape[1], device=hidden.device).expand(hidden.shape[:2])
    if pooling == "eos":
        index = positions.masked_fill(~attended, -1).argmax(1)
    else:
        index = positions.masked_fill(~attended, hidden.shape[1]).argmin(1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), index]


def leading_padding(attention_mask: torch.Tensor | None) -> torch.Tensor | None:
    """[B] how many tokens of `attention_mask` [B, L] come before the first attended one; None where no text has any.

    While a model is compiled or exported, no value is known: then there is always a tensor.
    """
    if attention_mask is None:
        return None
    shift = attention_mask.to(torch.bool).int().argmax(1)
    unknown = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return shift if unknown or bool(shift.any()) else None


def move_tokens(tensor: torch.Tensor, shift: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """Move the rows of [B, ...] by `shift` [B] places to the start of `dim`, what was before them to its end."""
    length = tensor.shape[dim]
    index = torch.arange(length, device=tensor.device) + shift.unsqueeze(1)
    # The length as a tensor: a number that is not known yet cannot be exported to ONNX here.
    index = index.remainder(torch.full_like(index, length))
    # Not `take_along_dim`, which fixes the batch size of an exported model.
    rows = torch.arange(tensor.shape[0], device=tensor.device).unsqueeze(1)
    return tensor.transpose(1, dim)[rows, index].transpose(1, dim)


def move_output_back(output: ModelOutput, shift: torch.Tensor) -> None:
    """Undo `move_tokens` in the token states [B, L, H] and attentions [B, heads, L, L] of a text tower, in place."""
    length = output["last_hidden_state"].shape[1]
    output["last_hidden_state"] = move_tokens(output["last_hidden_state"], -shift)
    if output.get("hidden_states") is not None:
        output["hidden_states"] = tuple(move_tokens(states, -shift) for states in output["hidden_states"])
    if output.get("attentions") is not None:
        maps = (move_tokens(attention, -shift, 2) for attention in output["attentions"])
        # Longformer's have a window in place of the last one.
        output["attentions"] = tuple(
            move_tokens(attention, -shift, 3) if attention.shape[3] == length else attention for attention in maps
        )


__all__ = ["TEXT_INPUTS", "leading_padding", "longest_text", "move_output_back", "move_tokens", "pool_text"]
