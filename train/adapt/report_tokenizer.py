"""A tokenizer made from reports, for language models trained from scratch (no download needed)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_PAD, _BOS, _EOS = "<pad>", "<s>", "</s>"


def learn_report_tokenizer(
    reports: Iterable[str], prompts: Iterable[str] = (), vocab_size: int = 8000, min_reports: int = 5
) -> PreTrainedTokenizerBase:
    """A tokenizer of the frequent words of `reports`, with the space before them, and of all 256 bytes.

    Any text comes back as it was, letter by letter: capitals, punctuation and line breaks. A word must occur in
    `min_reports` reports to become a token, and those of `prompts` always do: the vocabulary is published with the
    model, and what is rare in clinical text may identify a patient. The result depends on the texts alone, so that
    every process of a run gets the same one; the trainers of `tokenizers` break ties at random.
    """
    split = ByteLevel(add_prefix_space=False)
    words = Counter()
    for text in reports:
        words.update({word for word, _ in split.pre_tokenize_str(f" {text}")})
    fixed = sorted({word for text in prompts for word, _ in split.pre_tokenize_str(text)})
    frequent = sorted((word for word in words if words[word] >= min_reports), key=lambda word: (-words[word], word))
    tokens = dict.fromkeys([_PAD, _BOS, _EOS, *sorted(ByteLevel.alphabet()), *fixed, *frequent])
    vocabulary = {token: number for number, token in enumerate(list(tokens)[:vocab_size])}
    # The longest known beginning of a word, then of its rest: bytes are known, so that no word is unknown.
    spelling = WordPiece(vocabulary, unk_token=_PAD, continuing_subword_prefix="", max_input_chars_per_word=10**6)
    core = Tokenizer(spelling)
    core.pre_tokenizer, core.decoder = split, decoders.ByteLevel()
    core.post_processor = TemplateProcessing(f"{_BOS} $A", special_tokens=[(_BOS, vocabulary[_BOS])])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=_PAD,
        bos_token=_BOS,
        eos_token=_EOS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
