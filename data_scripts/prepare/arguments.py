"""The arguments of `data_scripts.prepare`; apart from its work, which takes seconds to import."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from data_scripts.films.images import COMPRESSIONS
from data_scripts.reading.film_lists import parse_counts, parse_lists


@dataclass
class PrepareArguments:
    """Arguments of `data_scripts.prepare`, beside those of the loader."""

    out: str = field(metadata={"help": "Folder to write the dataset into."})
    raw: str | None = field(default=None, metadata={"help": "Folder of the raw download (not for synthetic)."})
    image_size: int = field(
        default=378, metadata={"help": "Short side and crop in pixels, as the model will see it; 0 keeps the size."}
    )
    compression: str = field(
        default="fast",
        metadata={
            "help": "Of the films, both lossless PNG. fast: compressed by Parquet alone (60 kB a film at 378 px; 143 "
            "kB in memory and in the cache of load_dataset; 7,900 films/s decoded on one core). small: compressed "
            "within the PNG (57 kB everywhere; 1,300 films/s).",
            "choices": list(COMPRESSIONS),
        },
    )
    reduced_decoding: bool = field(
        default=False,
        metadata={
            "help": "Decode large JPEG, and DICOM in JPEG 2000, at a half, a quarter or an eighth of their size, never "
            "below twice --image_size: two to four times as fast. The result is no longer bit-equal to what the "
            "model's processor makes of the original: greys differ by 0.2 of 255 in the mean. Films with masks, and "
            "corpora that read their films in a way of their own, are decoded in full."
        },
    )
    mapping: str | None = field(
        default=None, metadata={"help": "YAML file with any arguments of the loader; those given here come first."}
    )
    skip_bad: bool = field(
        default=False,
        metadata={
            "help": "List what cannot be used, and films that look broken, in skipped.jsonl and go on; else stop."
        },
    )
    allow_empty_reports: bool = field(
        default=False,
        metadata={
            "help": "Keep records without a report if they have labels or masks, or nothing but films was named."
        },
    )
    extract_labels: bool = field(
        default=False,
        metadata={"help": "Take the labels of unlabelled English reports from their text, by the rules of extraction."},
    )
    drop_priors: bool = field(
        default=False,
        metadata={
            "help": "Take comparisons with earlier films out of English training reports, by rules (prepare/priors.py)."
        },
    )
    split_lists: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Splits by lists of films in place of the corpus's own: train=FILE validation=FILE test=FILE, a "
            "path a line. Films in no list are left out."
        },
    )
    split_counts: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Splits sampled by patient in place of the corpus's own: validation=11219 test=22433 films, the "
            "rest for training; the seed is the loader's split_seed. Without test=, test films stay."
        },
    )
    limit: int = field(default=0, metadata={"help": "Only the first so many records, for a trial; 0: all."})
    dry_run: bool = field(
        default=False, metadata={"help": "Write nothing: show the first records and what would be skipped."}
    )
    near_duplicates: bool = field(
        default=False, metadata={"help": "Report look-alikes in duplicates.json too, not only films of equal pixels."}
    )
    num_workers: int = field(default=os.cpu_count() or 1, metadata={"help": "Processes that decode images."})
    shard_megabytes: int = field(default=500, metadata={"help": "Size of a Parquet file, estimated beforehand."})
    rows_per_shard: int = field(default=0, metadata={"help": "At most so many records a Parquet file; 0: by size."})
    num_shards: int = field(default=1, metadata={"help": "Hosts that share the work."})
    shard_index: int = field(default=0, metadata={"help": "Which of them this is, from 0."})

    def __post_init__(self):
        if self.split_lists and self.split_counts:
            raise ValueError("give split_lists or split_counts, not both: either says which film is of which split")
        # Refuse now what listing the records would refuse.
        self.lists, self.counts = parse_lists(self.split_lists), parse_counts(self.split_counts)
        if self.image_size < 0 or 0 < self.image_size < 32:
            raise ValueError(f"image_size is {self.image_size}: give at least 32, or 0 to keep the original size")
        if self.reduced_decoding and not self.image_size:
            raise ValueError("reduced_decoding with image_size 0: a film that keeps its size cannot be decoded at less")
        for name, least in (("num_workers", 1), ("shard_megabytes", 1), ("num_shards", 1), ("rows_per_shard", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least {least}")
        if self.limit < 0:
            raise ValueError(f"limit is {self.limit}, it must be at least 0")
        if not 0 <= self.shard_index < self.num_shards:
            raise ValueError(f"shard_index is {self.shard_index}, it must be 0 to {self.num_shards - 1} (num_shards)")
        if self.compression not in COMPRESSIONS:
            raise ValueError(f"compression is {self.compression!r}, there are {COMPRESSIONS}")
