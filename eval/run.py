"""Evaluate models on prepared data.

    python -m eval.run --model runs/demo/model --data runs/demo/data
    python -m eval.run --model runs/demo/model --suite chexficient --data DIR
    python -m eval.run --model runs/demo/model runs/other/model openai/clip-vit-base-patch32 --suite synthetic \
        --data DIR --out runs/side_by_side
    python -m eval.run --model runs/findings --benchmark synthetic_probe --data runs/demo/data
    torchrun --nproc_per_node 4 -m eval.run ...

`--data` is a folder of prepared folders, one for each dataset; for benchmarks of a single dataset it may be the
prepared folder itself. Each benchmark writes `OUT/BENCHMARK.json`, and zero-shot ones `BENCHMARK.scores.safetensors`
(the score of every film, so that runs can be compared in pairs) and `BENCHMARK.png`; of several, `OUT/table.md` and the
page of `eval.report_page` have all. With several models each has a folder below OUT. What is finished is not run again:
a run that was stopped continues.
"""

from __future__ import annotations

import sys

from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from eval.arguments import EvaluationArguments


def main(arguments: list[str] | None = None) -> None:
    try:
        (parsed,) = HfArgumentParser(EvaluationArguments, prog=command_name()).parse_args_into_dataclasses(arguments)
        # Here, so that neither `--help` nor a wrong argument waits for what the work imports.
        from eval.side_by_side import evaluate, show

        rows, results = evaluate(parsed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    show(parsed, rows, results)


if __name__ == "__main__":
    main()
