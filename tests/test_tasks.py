"""One table of tasks: every room has its entry of every task, and none of another."""

from pathlib import Path

import pytest
import transformers
import yaml
from transformers.pipelines import PIPELINE_REGISTRY

import modeling_chexficient
from eval import benchmarks
from eval.models.adapted import KINDS
from model_cards.adapted import USAGE
from model_cards.space.__main__ import HEADS as SPACE_HEADS
from model_cards.space.__main__ import SpaceArguments
from modeling_chexficient import CheXficientConfig
from modeling_chexficient.modeling_chexficient_heads import HEADS
from modeling_chexficient.tasks_chexficient import TASKS, TASKS_ON_THE_HUB
from train.adapt import arguments
from train.adapt.__main__ import BUILDERS

ROOT = Path(__file__).parents[1]
ON_TOWER = {name for name, task in TASKS.items() if task.head_on_tower}


def test_every_room_knows_every_task():
    assert set(BUILDERS) == set(USAGE) == set(TASKS)
    assert set(KINDS) == ON_TOWER
    assert set(SPACE_HEADS) <= ON_TOWER
    assert set(SPACE_HEADS) <= set(SpaceArguments.__dataclass_fields__)
    assert set(arguments._OF_TASK.values()) <= set(TASKS)
    assert {task.auto_model: task.head for task in TASKS.values() if task.head_on_tower} == {
        auto_model: head.__name__ for auto_model, head in HEADS.items()
    }


def test_names_are_of_one_task_each():
    assert list(TASKS_ON_THE_HUB.values()) == list(TASKS.values())
    for field in ("hub_name", "pipeline", "auto_model", "head", "runner", "title", "output"):
        assert len({getattr(task, field) for task in TASKS.values()}) == len(TASKS), field


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_what_a_task_names_is_there(task):
    head = getattr(modeling_chexficient, task.head)
    assert getattr(transformers, task.auto_model)._model_mapping[head.config_class] is head
    assert hasattr(transformers, task.auto_processor)
    assert task.pipeline in PIPELINE_REGISTRY.get_supported_tasks()
    assert task.runner in benchmarks.TASKS
    assert task.head_fields == tuple(name for name in task.head_fields if hasattr(CheXficientConfig(), name))


def test_every_task_has_a_recipe():
    recipes = [yaml.safe_load(path.read_text()) for path in (ROOT / "train" / "recipes").glob("*.yaml")]
    assert {recipe["task"] for recipe in recipes if "task" in recipe} == set(TASKS)
