"""How a card tells to load an adapter."""

from pathlib import Path

from .adapter_files_chexficient import read_record, unknown_to_base
from .configuration_chexficient import CheXficientConfig
from .tasks_chexficient import TASKS_ON_THE_HUB


def loading_snippet(directory: str | Path, name: str | None = None) -> str:
    """Python lines that load an adapter, for a card; with `name` (a Hub id) in place of the folder.

    They need peft and transformers alone, as the base brings its code; on a base that is no CheXficient model (a plain
    tower), whose code is too old for the head, or that was held in lower precision, they need this package. Raises as
    `load_adapter` where it is no complete adapter.
    """
    folder = Path(directory)
    record, name = read_record(folder), str(directory) if name is None else name
    task = TASKS_ON_THE_HUB[record.task]
    plain_tower = task.head_on_tower and record.base.model_type != CheXficientConfig.model_type
    if plain_tower or record.base_precision != "fp32" or unknown_to_base(record):
        return f"from modeling_chexficient import load_adapter\n\nmodel = load_adapter({name!r})\n"
    own_processor = any((folder / file).is_file() for file in ("preprocessor_config.json", "processor_config.json"))
    processor_of = name if own_processor else record.base.name
    fields = {field: value for field, value in record.head_arguments.items() if value is not None}
    labels = fields.pop("id2label", {})
    fields.pop("label2id", None)
    arguments = [
        repr(record.base.name),
        *([f"revision={record.base.revision!r}"] if record.base.revision else []),
        *(["id2label=dict(enumerate(labels))"] if labels else []),
        *(f"{field}={value!r}" for field, value in fields.items()),
        "trust_remote_code=True",
    ]
    lines = [
        "from peft import PeftModel",
        f"from transformers import {task.auto_model}, {task.auto_processor}",
        "",
        *([f"labels = {list(labels.values())!r}"] if labels else []),
        f"base = {task.auto_model}.from_pretrained(",
        *(f"    {argument}," for argument in arguments),
        ")",
        f"model = PeftModel.from_pretrained(base, {name!r}).eval()",
        f"processor = {task.auto_processor}.from_pretrained({processor_of!r}, trust_remote_code=True)",
    ]
    return "\n".join(lines) + "\n"
