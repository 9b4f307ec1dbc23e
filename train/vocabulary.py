"""A WordPiece vocabulary learnt from reports, for text towers trained from scratch (no download needed)."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast, PreTrainedTokenizerBase


def learn_wordpiece(
    texts: Iterable[str], vocab_size: int = 4000, min_frequency: int = 5, max_length: int = 256
) -> PreTrainedTokenizerBase:
    """A lower-casing BERT tokenizer whose vocabulary covers `texts`.

    A word must occur `min_frequency` times to become a token of its own: the vocabulary is published with the
    model, and what is rare in clinical text may identify a patient.
    """
    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=min_frequency, show_progress=False)
    return BertTokenizerFast(vocab=learner.get_vocab(), model_max_length=max_length)
