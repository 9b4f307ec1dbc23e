"""The tasks that a model can be adapted to, each defined once; every room adds its part under the task's name.

A new task on the image tower is six files: a record here; its head, in `HEADS` of `modeling_chexficient_heads.py`; a
file of `train/adapt` that reads what it learns from, in `BUILDERS` of `train/adapt/__main__.py`; the model that `eval`
asks, in `KINDS` of `eval/models/adapted.py`; and the code on its card, in `USAGE` of `model_cards/adapted.py`.
`tests/test_tasks.py` fails where one is missing.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class AdapterTask:
    """One task.

    Attributes:
        name: in recipes and on the command line.
        hub_name: in the records of adapters and runs.
        pipeline: tag of the Hub, and name of the pipeline of transformers.
        auto_model, auto_processor: classes of transformers that load its model and processor without this package.
        head: name of the class of its model.
        head_on_tower: whether that is a head on the image tower of any base; else the base is a model of its own.
        head_fields: fields of `CheXficientConfig` that rebuild the head besides its labels and its problem type.
        runner: task of `eval` that evaluates it.
        title: for people.
        output: what one output of the model is about, for people.
    """

    name: str
    hub_name: str
    pipeline: str
    auto_model: str
    auto_processor: str
    head: str
    head_on_tower: bool
    head_fields: tuple[str, ...]
    runner: str
    title: str
    output: str


_ALL = (
    AdapterTask(
        name="classification",
        hub_name="image-classification",
        pipeline="image-classification",
        auto_model="AutoModelForImageClassification",
        auto_processor="AutoImageProcessor",
        head="CheXficientForImageClassification",
        head_on_tower=True,
        head_fields=("image_pooling",),
        runner="disease_prediction",
        title="Finding classification",
        output="finding",
    ),
    AdapterTask(
        name="segmentation",
        hub_name="semantic-segmentation",
        pipeline="image-segmentation",
        auto_model="AutoModelForSemanticSegmentation",
        auto_processor="AutoImageProcessor",
        head="CheXficientForSemanticSegmentation",
        head_on_tower=True,
        head_fields=("mask_decoder", "clip_logits", "semantic_loss_ignore_index"),
        runner="segmentation",
        title="Structure segmentation",
        output="structure",
    ),
    AdapterTask(
        name="report_generation",
        hub_name="report-generation",
        pipeline="image-text-to-text",
        auto_model="AutoModelForImageTextToText",
        auto_processor="AutoProcessor",
        head="CheXficientForReportGeneration",
        head_on_tower=False,
        head_fields=(),
        runner="report_generation",
        title="Report generation",
        output="report",
    ),
)
#: By `name`.
TASKS = {task.name: task for task in _ALL}
#: By `hub_name`, as records of adapters and runs name them.
TASKS_ON_THE_HUB = {task.hub_name: task for task in _ALL}

__all__ = ["TASKS", "TASKS_ON_THE_HUB", "AdapterTask"]
