"""A vocabulary made from reports, for text towers trained from scratch (no download needed)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertTokenizerFast, PreTrainedTokenizerBase

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def learn_vocabulary(
    texts: Iterable[str], vocab_size: int = 8000, min_reports: int = 5, max_length: int = 256
) -> PreTrainedTokenizerBase:
    """A lower-casing BERT tokenizer that knows the frequent words of `texts` and spells out the others.

    A word must occur in `min_reports` texts to become a token: the vocabulary is published with the model, and what
    is rare in clinical text may identify a patient. The result depends on the texts alone, so that every process of
    a run gets the same one; the trainers of `tokenizers` break ties at random.
    """
    normalise, split = BertNormalizer(lowercase=True), BertPreTokenizer()
    words = Counter()
    for text in texts:
        words.update({word for word, _ in split.pre_tokenize_str(normalise.normalize_str(text))})
    letters = Counter()
    for word, count in words.items():
        for letter in set(word):
            letters[letter] += count
    known = sorted(letter for letter, count in letters.items() if count >= min_reports)
    frequent = sorted((word for word in words if words[word] >= min_reports), key=lambda word: (-words[word], word))
    tokens = dict.fromkeys([*_SPECIAL, *known, *(f"##{letter}" for letter in known), *frequent])
    vocabulary = {token: number for number, token in enumerate(list(tokens)[:vocab_size])}
    return BertTokenizerFast(vocab=vocabulary, model_max_length=max_length)
