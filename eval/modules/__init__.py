"""Metrics as modules of the `evaluate` library, loaded by path and offline from a checkout (or where it is installed):

    import evaluate
    evaluate.load("eval/modules/multilabel_auroc").compute(predictions=scores, references=labels)

Each wraps functions of `eval` that the benchmarks use too. The parser of `evaluate` does not understand `import a, b`.
"""
