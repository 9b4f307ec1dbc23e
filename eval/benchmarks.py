"""Benchmarks as records: what is asked of a model, on which data, and how it is scored.

Numbers of films and protocols are those of arXiv 2602.22843's evaluation code and of arXiv 2401.12215 (probes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from data_scripts.loaders import (
    chexpert_5x200,
    cxr_lt_2024,
    nih_chestxray14,
    ranzcr_clip,
    sharing_films,
    vindr_cxr,
    vindr_pcxr,
)
from data_scripts.reading.labels import CHEXPERT_LABELS

#: Findings in less than this share of the training films are reported apart, as rare; those in at least `COMMON_FROM`
#: as common, the others as medium: the head, body and tail of the CXR-LT challenges (arXiv 2310.16112).
RARE_BELOW, COMMON_FROM = 0.01, 0.1
TASKS = ("zero_shot", "retrieval", "disease_prediction", "segmentation", "grounding", "report_generation")
#: The loader of users' own tables: what it prepared may be any corpus.
OWN = "folder"
#: Frontal films in our vocabulary of views: some corpora do not say whether a frontal film is PA or AP.
_FRONTAL = ("PA", "AP", "UNKNOWN")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. Bump `version` when figures stop being comparable.

    Args:
        name: also the name of the result file.
        task: one of `TASKS`.
        dataset: name of the loader that reads it, and of the prepared folder below `--data`.
        metric: the headline figure.
        split: that the model is evaluated on; "all": every film of the data.
        labels: evaluated findings, in this order; empty: all labels of the data, or those that `words` mean.
        words: in place of labels or structures, where these are the data's own: what is named by one of these words.
        prompts: name of the prompt family (`eval.prompts`).
        unlisted_is_absent: a finding not listed for a film is absent, not unjudged (MIMIC-CXR: blank = 0).
        views: films of other views are left out; empty: all views.
        first_of_study: only the first film of each study (of those views).
        threshold_split: where a threshold is chosen; None: nowhere.
        folder: name of the prepared folder, where it is another one: of splits that are not the corpus's own.
        train_dataset: prepared folder of the training split, where it is another corpus.
        structures: to segment; each is the union of the masks named.
        thin: the structures are lines or tubes: decoders that are trained for them see the film itself, and their loss
            is soft Dice alone (`eval.tasks.decoders.THIN_STRUCTURES`).
        phrase_column: of the text that is to be found in a film; empty: the positive prompt of each of its findings.
        no_mask_is_empty: a film without a mask does not show the structure; else it was not outlined and stays out.
        expected: number of films (texts) of the complete benchmark; None: it depends on the copy.
        splits: number of films of each split in the published protocol; other data are evaluated with a note.
        source: citation or address.
        options: arguments of its loader beside the folders.
        rare_below: see `RARE_BELOW`.
    """

    name: str
    version: int
    task: str
    dataset: str = "synthetic"
    metric: str = "macro AUROC"
    split: str = "test"
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    prompts: str = "published"
    unlisted_is_absent: bool = False
    views: tuple[str, ...] = ()
    first_of_study: bool = False
    threshold_split: str | None = "validation"
    folder: str = ""
    train_dataset: str | None = None
    structures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    thin: bool = False
    phrase_column: str = ""
    no_mask_is_empty: bool = False
    expected: int | None = None
    splits: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    options: str = ""
    rare_below: float = RARE_BELOW

    @property
    def prepared(self) -> str:
        """Name of the prepared folder below `--data`."""
        return self.folder or self.dataset

    @property
    def exposure(self) -> frozenset[str]:
        """The corpora (`source` of records) that hold its films or others of their patients, by what loaders say."""
        return sharing_films(self.dataset) | {self.dataset} - {OWN}

    @property
    def how_to(self) -> str:
        """The commands that prepare its data below a folder DATA."""
        raw = "" if self.dataset == "synthetic" else " --raw DOWNLOAD"
        prepare = "python -m data_scripts.prepare"
        command = f"{prepare} {self.dataset}{raw} --out DATA/{self.prepared} {self.options}".strip()
        if self.train_dataset is None:
            return command
        return f"{command}; {prepare} {self.train_dataset} --raw DOWNLOAD --out DATA/{self.train_dataset}"


def _alike(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Structures that are one mask of the same name each."""
    return {name: (name,) for name in names}


_NIH = tuple(name.replace("_", " ") for name in nih_chestxray14.LABELS)
_CHEXPERT_5 = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
_TUBES = {
    "endotracheal tube": tuple(name for name in ranzcr_clip.LABELS if name.startswith("ETT")),
    "nasogastric tube": tuple(name for name in ranzcr_clip.LABELS if name.startswith("NGT")),
    "central venous catheter": tuple(name for name in ranzcr_clip.LABELS if name.startswith("CVC")),
    "Swan Ganz catheter": ("Swan Ganz Catheter Present",),
}

#: Bedside films: half show a line or tube, three in ten of these misplaced. By default tubes are rare, and right.
_SYNTHETIC_TUBES = ("Endotracheal Tube", "Nasogastric Tube", "Central Venous Catheter")
_WITH_TUBES = "--tube_share 0.5 --misplaced_tube_share 0.3"

_CHEXPERT_TEST = Benchmark(
    "chexpert_zero_shot", 1, "zero_shot", "chexlocalize", labels=CHEXPERT_LABELS, views=_FRONTAL, first_of_study=True,
    expected=500, source="https://github.com/rajpurkarlab/cheXpert-test-set-labels (arXiv 1901.07031)",
)  # fmt: skip
_MIMIC_TEST = Benchmark(
    "mimic_zero_shot", 1, "zero_shot", "mimic_cxr_jpg", labels=CHEXPERT_LABELS, unlisted_is_absent=True,
    views=("PA", "AP"), expected=3_082, source="https://physionet.org/content/mimic-cxr-jpg/",
)  # fmt: skip
_NIH_TEST = Benchmark(
    "nih_zero_shot", 1, "zero_shot", "nih_chestxray14", labels=(*_NIH, "No Finding"), expected=25_596,
    source="https://nihcc.app.box.com/v/ChestXray-NIHCC (arXiv 1705.02315)",
)  # fmt: skip
_RANZCR = Benchmark(
    "ranzcr_probe", 1, "disease_prediction", "ranzcr_clip", labels=ranzcr_clip.LABELS,
    source="https://www.kaggle.com/c/ranzcr-clip-catheter-line-classification",
    options="--validation_share 0.15 --test_share 0.15",
)  # fmt: skip
_SIIM = Benchmark(
    "siim_zero_shot", 1, "zero_shot", "siim_acr", "AUROC", labels=("Pneumothorax",), expected=1_372,
    source="https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
)  # fmt: skip
_SYNTHETIC = Benchmark("zero_shot_findings", 2, "zero_shot", prompts="default", source="data_scripts.synthetic")
_COVID = Benchmark(
    "covid_lungs", 1, "segmentation", "covid_chestxray", "mean Dice", structures=_alike(("lungs",)),
    source="https://github.com/ieee8023/covid-chestxray-dataset (arXiv 2006.11988)",
    options="--mask_dir lung_masks --validation_share 0.15 --test_share 0.35 --skip_bad",
)  # fmt: skip

_ZERO_SHOT = (
    _CHEXPERT_TEST,
    _MIMIC_TEST,
    _NIH_TEST,
    Benchmark(
        "kermany_zero_shot", 1, "zero_shot", "kermany", "AUROC", labels=("Pneumonia",), expected=624,
        source="https://data.mendeley.com/datasets/rscbjbr9sj",
    ),
    _SIIM,
    # The labels of its test films are not public.
    Benchmark(
        "tbx11k_zero_shot", 1, "zero_shot", "tbx11k", "AUROC", "validation", labels=("Tuberculosis",),
        threshold_split="train", expected=1_800, source="https://mmcheng.net/tb/",
    ),
    Benchmark(
        "vindr_cxr_zero_shot", 1, "zero_shot", "vindr_cxr", labels=tuple(dict.fromkeys(vindr_cxr.LABELS.values())),
        expected=3_000, source="https://physionet.org/content/vindr-cxr/ (arXiv 2012.15029)",
    ),
    Benchmark(
        "vindr_pcxr_zero_shot", 1, "zero_shot", "vindr_pcxr", labels=tuple(dict.fromkeys(vindr_pcxr.LABELS.values())),
        expected=1_397, source="https://physionet.org/content/vindr-pcxr/ (arXiv 2203.10612)",
    ),
)  # fmt: skip

_RETRIEVAL = (
    Benchmark(
        "chexpert_5x200_retrieval", 1, "retrieval", "chexpert_5x200", "R@5", labels=chexpert_5x200.CLASSES,
        expected=998, source="https://github.com/marshuang80/gloria",
        options="--reports df_chexpert_plus_240401.csv",
    ),
    replace(_MIMIC_TEST, name="mimic_retrieval", task="retrieval", metric="R@5"),
    # The published test set are the views AP, PA and POSTERO_ANTERIOR, and AP (KUB), which is OTHER here: films of no
    # known view, lines and decubitus films were not asked for.
    Benchmark(
        "rexgradient_retrieval", 2, "retrieval", "rexgradient_160k", "R@5", views=("PA", "AP"),
        expected=8_083, source="https://huggingface.co/datasets/rajpurkarlab/ReXGradient-160K",
    ),
)  # fmt: skip

_DISEASE_PREDICTION = (
    replace(_NIH_TEST, name="nih_probe", task="disease_prediction", labels=_NIH),
    replace(
        _CHEXPERT_TEST, name="chexpert_5_probe", task="disease_prediction", labels=_CHEXPERT_5, first_of_study=False,
        views=(), expected=668, train_dataset="chexpert_plus",
    ),
    Benchmark(
        "rsna_probe", 1, "disease_prediction", "rsna_pneumonia", "AUROC", labels=("Pneumonia",),
        source="https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
        options="--validation_share 0.15 --test_share 0.15",
    ),
    _RANZCR,
)  # fmt: skip

#: The protocols of arXiv 2401.12215 with its splits: random by patient on NIH (not the official lists), the official
#: ones of CheXpert (all films of the 500 test studies), and on RSNA the challenge's own test films. The lists of NIH
#: and RSNA, those of 1 and 10 % of the training films among them, are published with MRM.
_LISTS = "--split_lists train=train_list.txt validation=val_list.txt test=test_list.txt"
_MED_PEFT_SOURCE = "arXiv 2401.12215; lists: https://github.com/RL4M/MRM-pytorch/tree/main/DatasetsSplits"
_MED_PEFT = (
    Benchmark(
        "nih_med_peft", 1, "disease_prediction", "nih_chestxray14", labels=_NIH, folder="nih_med_peft",
        expected=22_433, splits={"train": 78_468, "validation": 11_219, "test": 22_433}, options=_LISTS,
        source=_MED_PEFT_SOURCE,
    ),
    Benchmark(
        "chexpert_med_peft", 1, "disease_prediction", "chexlocalize", labels=_CHEXPERT_5,
        train_dataset="chexpert_plus", expected=668, splits={"train": 223_414, "validation": 234, "test": 668},
        source=_MED_PEFT_SOURCE,
    ),
    Benchmark(
        "rsna_med_peft", 1, "disease_prediction", "rsna_pneumonia", "AUROC", labels=("Pneumonia",),
        folder="rsna_med_peft", expected=3_000, splits={"train": 25_184, "validation": 1_500, "test": 3_000},
        options=f"--test_labels test_list.txt {_LISTS}", source=_MED_PEFT_SOURCE,
    ),
)  # fmt: skip

_SEGMENTATION = (
    replace(
        _SIIM, name="siim_segmentation", task="segmentation", metric="mean Dice",
        structures=_alike(("Pneumothorax",)), no_mask_is_empty=True,
    ),
    Benchmark(
        "jsrt_lungs", 1, "segmentation", "jsrt", "mean Dice",
        structures=_alike(("left lung", "right lung", "heart", "left clavicle", "right clavicle")), expected=123,
        source="http://db.jsrt.or.jp/eng.php; SCR, doi 10.1016/j.media.2005.02.002",
        options="--validation_share 0.15",
    ),
    replace(
        _RANZCR, name="ranzcr_tubes", version=2, task="segmentation", metric="mean Dice", labels=(), structures=_TUBES,
        thin=True,
    ),
)  # fmt: skip

#: Where a phrase or a finding is: the phrases and boxes of MS-CXR, and what each synthetic film shows with its outline.
_GROUNDING = (
    Benchmark(
        "ms_cxr_grounding", 2, "grounding", "ms_cxr", "CNR", "all", phrase_column="findings", threshold_split=None,
        expected=1_162, source="https://physionet.org/content/ms-cxr/ (arXiv 2204.09817)",
        options="--mimic_dir MIMIC-CXR-JPG",
    ),
    replace(
        _SYNTHETIC, name="synthetic_grounding", version=2, task="grounding", metric="pointing game, focal findings",
        threshold_split=None,
    ),
)  # fmt: skip

_REPORT_GENERATION = (
    Benchmark(
        "iu_reports", 1, "report_generation", "iu_r2gen", "clinical F1", expected=1_180,
        source="https://github.com/zhjohnchan/R2Gen",
    ),
    replace(
        _MIMIC_TEST, name="mimic_reports", task="report_generation", dataset="mimic_r2gen", metric="clinical F1",
        labels=(), views=(), expected=None, source="https://github.com/zhjohnchan/R2Gen",
    ),
)  # fmt: skip

_OF_SYNTHETIC = (
    _SYNTHETIC,
    replace(_SYNTHETIC, name="synthetic_retrieval", task="retrieval", metric="R@5"),
    replace(_SYNTHETIC, name="synthetic_probe", task="disease_prediction"),
    replace(
        _SYNTHETIC, name="synthetic_segmentation", task="segmentation", metric="mean Dice",
        structures=_alike(("left_lung", "right_lung", "heart")),
    ),
    replace(_SYNTHETIC, name="synthetic_reports", task="report_generation", metric="clinical F1"),
)  # fmt: skip

_BEDSIDE = replace(_SYNTHETIC, version=1, folder="synthetic_tubes", options=_WITH_TUBES)
_OF_BEDSIDE = (
    # Those that are frequent enough for figures of small sets of films.
    replace(
        _BEDSIDE, name="synthetic_bedside_findings", task="disease_prediction",
        labels=(
            "Pleural Effusion", "Cardiomegaly", "Atelectasis", "Consolidation", "Edema", "Nodule", "Pneumothorax",
            "Emphysema", "Mass", "Fibrosis", "Pleural Thickening", "Aortic Enlargement",
        ),
    ),
    # Present, and misplaced.
    replace(
        _BEDSIDE, name="synthetic_tube_placement", version=2, task="disease_prediction",
        labels=(*_SYNTHETIC_TUBES, *(f"{name} Misplaced" for name in _SYNTHETIC_TUBES)),
    ),
    # All films are outlined: no mask is no tube.
    replace(
        _BEDSIDE, name="synthetic_tubes", version=2, task="segmentation", metric="mean Dice",
        structures={name.lower(): (name,) for name in _SYNTHETIC_TUBES}, no_mask_is_empty=True, thin=True,
    ),
    replace(_BEDSIDE, name="synthetic_bedside_reports", task="report_generation", metric="clinical F1"),
)  # fmt: skip

_ON_REAL_SAMPLES = (
    # The one finding that a small sample of NIH holds enough of.
    replace(_NIH_TEST, name="nih_pneumonia_zero_shot", metric="AUROC", labels=("Pneumonia",)),
    replace(
        _NIH_TEST, name="nih_pneumonia_probe", task="disease_prediction", metric="AUROC", labels=("Pneumonia",),
    ),
    _COVID,
    # Nothing is trained for retrieval, so all films may be asked for.
    replace(_COVID, name="covid_retrieval", task="retrieval", metric="R@5", split="all", structures={}),
)  # fmt: skip

_LONG_TAIL = Benchmark(
    "cxr_lt_2024_long_tailed", 1, "zero_shot", "cxr_lt_2024", labels=cxr_lt_2024.LONG_TAILED, expected=78_946,
    folder="cxr_lt_2024_task1", options="--task task1",
    source="https://physionet.org/content/cxr-lt-iccv-workshop-cvamd/2.0.0/ (arXiv 2506.07984)",
)  # fmt: skip
#: Rare and unseen findings: the three tasks of CXR-LT 2024, whose test labels are published. Those of CXR-LT 2026
#: (arXiv 2602.22092) are not, so it is no benchmark here.
_CXR_LT = (
    _LONG_TAIL,
    replace(
        _LONG_TAIL, name="cxr_lt_2024_gold_standard", labels=cxr_lt_2024.GOLD_STANDARD, expected=None,
        folder="cxr_lt_2024_task2", options="--task task2",
    ),
    replace(
        _LONG_TAIL, name="cxr_lt_2024_unseen", labels=cxr_lt_2024.UNSEEN, expected=None, folder="cxr_lt_2024_task3",
        options="--task task3",
    ),
)  # fmt: skip

#: A hospital's own films, held out by patient; whatever its labels and masks of lines and tubes are called.
_OWN = Benchmark("own_findings", 1, "disease_prediction", "folder", source="data_scripts.loaders.folder")
_OF_LINES = (
    *("tube", "tubes", "line", "lines", "catheter", "catheters", "device", "devices", "drain", "drains"),
    *("cvc", "ett", "ngt", "picc"),
)
#: Findings last: every hospital has some, so their result says that the suite was gone through.
_OF_OWN_FILMS = (
    replace(_OWN, name="own_reports", task="report_generation", metric="clinical F1"),
    replace(_OWN, name="own_tubes", words=_OF_LINES),
    replace(_OWN, name="own_tube_outlines", task="segmentation", metric="mean Dice", words=_OF_LINES, thin=True),
    _OWN,
)  # fmt: skip

#: Evaluating while developing: never on the films of a test.
_VALIDATION = replace(_SYNTHETIC, name="zero_shot_findings_validation", split="validation", threshold_split=None)

#: The twenty benchmarks of the suite "chexficient", by kind of task.
_CHEXFICIENT = (*_ZERO_SHOT, *_RETRIEVAL, *_DISEASE_PREDICTION, *_SEGMENTATION, *_REPORT_GENERATION)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        *_CHEXFICIENT,
        *_MED_PEFT,
        *_CXR_LT,
        *_OF_SYNTHETIC,
        *_OF_BEDSIDE,
        *_GROUNDING,
        *_ON_REAL_SAMPLES,
        *_OF_OWN_FILMS,
        _VALIDATION,
    )
}
SUITES: dict[str, tuple[str, ...]] = {
    "chexficient": tuple(benchmark.name for benchmark in _CHEXFICIENT),
    "med_peft": tuple(benchmark.name for benchmark in _MED_PEFT),
    "cxr_lt": tuple(benchmark.name for benchmark in _CXR_LT),
    "synthetic": tuple(benchmark.name for benchmark in _OF_SYNTHETIC),
    "bedside": tuple(benchmark.name for benchmark in _OF_BEDSIDE),
    "grounding": tuple(benchmark.name for benchmark in _GROUNDING),
    "hospital": tuple(benchmark.name for benchmark in _OF_OWN_FILMS),
    "real_sample": tuple(benchmark.name for benchmark in _ON_REAL_SAMPLES),
}
