"""Metrics of text that need packages and weights of others; each runs where both are there, and never downloads.

| metric | install | weights |
|---|---|---|
| METEOR of 2005 | `pip install nltk` | `python -m nltk.downloader wordnet` |
| METEOR 1.5 | Java; `pip install --no-deps pycocoevalcap` | (its jar is in the package) |
| BERTScore | `pip install bert-score` | `distilbert-base-uncased` in the Hugging Face cache |
| RadGraph F1 | `pip install radgraph` | those its first use downloads, in its cache |
| CheXbert F1 | `pip install f1chexbert` | those its first use downloads, in its cache |
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import huggingface_hub.constants
import numpy as np

from eval.tasks.text_metrics import tokenise

_BERTSCORE_MODEL = "distilbert-base-uncased"


def meteor(generated: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """METEOR [reports] of nltk (Banerjee and Lavie, 2005), on the words of `tokenise`. LookupError without WordNet."""
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import meteor_score

    wordnet.ensure_loaded()
    pairs = zip(generated, references, strict=True)
    return np.array([meteor_score([tokenise(reference)], tokenise(text)) for text, reference in pairs])


def meteor_1_5(generated: Sequence[str], references: Sequence[str]) -> float:
    """METEOR 1.5 (Denkowski and Lavie, 2014) of the corpus, as in pycocoevalcap; words are parted by a space.

    About half of what `meteor` is on the same texts.

    Raises:
        FileNotFoundError: there is no Java.
    """
    from pycocoevalcap.meteor.meteor import Meteor

    if shutil.which("java") is None:
        raise FileNotFoundError("METEOR 1.5 runs in Java, and no `java` is on the path")
    told, wanted = ({row: [text] for row, text in enumerate(side)} for side in (generated, references))
    return float(Meteor().compute_score(wanted, told)[0])


def bertscore(generated: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """BERTScore F1 [reports] (arXiv 1904.09675), without rescaling."""
    from bert_score import score

    return score(list(generated), list(references), model_type=_BERTSCORE_MODEL)[2].numpy()


def radgraph(generated: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """RadGraph F1 [reports] of entities and relations, "partial" (arXiv 2106.14463, 2210.12186)."""
    from radgraph import F1RadGraph

    scorer = F1RadGraph(reward_level="partial")
    return np.array(scorer(hyps=list(generated), refs=list(references))[1], dtype=float)


def chexbert(generated: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Micro and macro F1 of 14 and of five findings by CheXbert (arXiv 2004.09167), for the whole corpus."""
    from f1chexbert import F1CheXbert

    _, _, fourteen, five = F1CheXbert()(hyps=list(generated), refs=list(references))
    return {
        f"{number}_{mean}": float(report[f"{mean} avg"]["f1-score"])
        for number, report in (("14", fourteen), ("5", five))
        for mean in ("micro", "macro")
    }


OPTIONAL: dict[str, Callable] = {"bertscore": bertscore, "radgraph": radgraph, "chexbert": chexbert}


@contextmanager
def offline() -> Iterator[None]:
    """No look at the Hub within, nor at any other host: what is not in the cache is not there.

    Packages of others fetch from hosts of their own, too, which no setting of the Hub's client keeps them from.
    """
    before = huggingface_hub.constants.HF_HUB_OFFLINE, socket.getaddrinfo
    huggingface_hub.constants.HF_HUB_OFFLINE, socket.getaddrinfo = True, _no_host
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE, socket.getaddrinfo = before


def _no_host(host, *_, **__):
    raise socket.gaierror(socket.EAI_NONAME, f"{host} was not asked: metrics are computed without the network")


def attempt(metric: Callable, generated: Sequence[str], references: Sequence[str]):
    """What a metric gives, and None; or None, and in one line why it cannot be computed here."""
    try:
        with offline():
            return metric(generated, references), None
    except ImportError as error:
        return None, f"{metric.__name__} was not computed: {error}"
    # A package without its weights raises whatever its authors chose.
    except Exception as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip(" *")), "")
        return None, f"{metric.__name__} was not computed: {type(error).__name__}, {first}"
