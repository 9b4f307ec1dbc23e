"""The benchmarks of drawing, reading, bookkeeping and evaluation: what they print, never how fast this machine is."""

import json
import re
import tracemalloc

import numpy as np
import pytest

from data_scripts import speed
from eval import speed as evaluation_speed
from eval.tasks.ranking import retrieval_ranks
from train.selection import speed as selection_speed
from train.selection.sampler import CurationBatchSampler, Schedule
from train.selection.state import CurationState
from train.self_supervised import speed as self_supervised_speed


def test_ratios_are_the_medians_of_turns_after_the_first(monkeypatch):
    """By a clock of our own: the reference takes 2 s, the work 100 s in the first turn and then 2, 4 and 12 s."""
    now = [0.0]
    monkeypatch.setattr(speed.time, "process_time", lambda: now[0])
    durations = iter((100.0, 2.0, 4.0, 12.0))

    def take(seconds: float) -> None:
        now[0] += seconds

    ratios = speed.time_ratios({"work": lambda: take(next(durations))}, lambda: take(2.0), repeats=3)
    assert ratios == {"work": 2.0}


def test_commands_print_a_ratio_for_each_work(capsys):
    speed.main(["--films", "2", "--repeats", "1"])
    drawing = capsys.readouterr().out
    selection_speed.main(["--pairs", "9000", "20000", "--repeats", "1"])
    bookkeeping = capsys.readouterr().out
    assert re.findall(r"^(.+): \d+\.\d+ times", drawing, flags=re.MULTILINE) == [
        "a film drawn",
        "a report written",
        "a report read for findings",
    ]
    assert re.findall(r"^bookkeeping of ([\d,]+) pairs: \d+\.\d times", bookkeeping, flags=re.MULTILINE) == [
        "9,000",
        "20,000",
    ]
    with pytest.raises(SystemExit):
        speed.main(["--films", "0"])


def test_the_books_hold_a_quarter():
    assert int(selection_speed.keep_books(20_000).kept.sum()) == 5_000


def test_the_orders_of_a_run_take_five_bytes_a_pair():
    pairs = 200_000
    schedule = Schedule(pairs, 8192, 4096, warmup_steps=60, curation_epochs=2, subset_steps=0)
    sampler = CurationBatchSampler(schedule, CurationState(pairs), seed=0, rank=0, world_size=1)
    tracemalloc.start()
    seen = sum(len(batch) for batch in sampler.global_batches(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 60 * 4096 + 2 * pairs
    assert peak < 5 * pairs, "one order at a time, of 4 bytes"


def test_evaluation_is_timed_against_what_gives_the_same(capsys):
    films, texts, pairs = evaluation_speed.simulate_pairs(200)
    ours, peer = retrieval_ranks(films, texts, pairs), evaluation_speed.sorted_ranks(films, texts)
    assert all(np.array_equal(*ranks) for ranks in zip(ours, peer, strict=True))
    assert (ours[0] > 1).any(), "some are mistaken"
    small = ["--films", "300", "--patients", "60", "--resamples", "9", "--looped", "2", "--pairs", "40"]
    evaluation_speed.main([*small, "--sorted_pairs", "30", "--repeats", "1"])
    printed = capsys.readouterr().out
    assert re.search(r"^intervals of 300 films: a loop takes \d+\.\d+ ", printed, flags=re.MULTILINE)
    assert re.search(r"^ranks of 30 films and texts: sorting the matrix takes \d+\.\d+ ", printed, flags=re.MULTILINE)


def test_a_step_of_self_distillation_beside_its_parts(tmp_path, capsys):
    vision = {"model_type": "dinov2", "patch_size": 14, "hidden_size": 32, "num_hidden_layers": 2}
    words = ["--vision_config", json.dumps(vision | {"num_attention_heads": 2}), "--image_size", "56"]
    words += ["--prototypes", "24", "--head_hidden", "32", "--head_bottleneck", "16", "--batch_size", "4"]
    self_supervised_speed.main([*words, "--repeats", "2", "--out", str(tmp_path / "speed.json")])
    report, table = json.loads((tmp_path / "speed.json").read_text()), capsys.readouterr().out
    seconds = report["seconds"]
    assert all(f"| {name} |" in table for name in seconds)
    arithmetic = {part for parts in self_supervised_speed.SUMS.values() for part in parts}
    assert arithmetic < seconds.keys()
    assert all(seconds[name] > 0 for name in arithmetic)
    assert report["ratios"]["towers alone"]["lowest"] > report["ratios"]["towers and heads"]["lowest"]
    assert report["films_per_second"] == pytest.approx(4 / seconds["whole step"])
    assert (report["plan"]["local_size"], report["local_crops"]) == (28, 8)
    for wrong, message in (
        (["--repeats", "0"], "repeats is 0"),
        (["--local_size", "30"], "multiple of the patch size"),
    ):
        with pytest.raises(SystemExit, match=message):
            self_supervised_speed.main([*words, *wrong])
