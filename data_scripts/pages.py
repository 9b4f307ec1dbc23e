"""A page for every corpus: how large it is, its licence, splits, leaks and traps, and how to get and prepare it.

    python -m data_scripts.pages --out DIR [--loaders nih_chestxray14 siim_acr]

Everything is taken from the loaders: `SOURCE`, the docstring (the layout that is read) and the options. `README.md` in
the folder is a table of all of them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from jinja2 import Environment
from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from data_scripts.loaders import LOADERS, load_loader, parts_of, sharing_films
from data_scripts.schema import Source

#: What each kind of access asks of a user.
ACCESS = {
    "open": "open: anybody may download it",
    "registration": "by registration: the owner's terms are accepted before the download",
    "credentialed": "credentialed: training and a signed agreement, for each person who works with it",
    "synthetic": "synthetic: made by a command, nothing to download",
    "own": "your own",
}
#: Traps that begin so are about leaks.
_LEAK = "Exposure: "

_PAGE = """# {{ source.title }}

| | |
|---|---|
| loader | `{{ source.name }}` |
| version | {{ source.version }} |
| address | {{ source.url }} |
| licence | {{ source.licence }} |
| access | {{ access }} |
| films | {{ size }} |

## Splits

{{ splits }}

## Leaks

{% for leak in leaks -%}
- {{ leak }}
{% else -%}
No corpus here is known to share its films.
{% endfor %}
## Traps

{% for trap in traps -%}
- {{ trap }}
{% endfor %}
## How to get it

{% if source.url != "-" %}From {{ source.url }}; {{ access }}. {% endif %}What the loader reads:

{{ layout }}

```bash
python -m data_scripts.prepare {{ source.name }}{{ raw }} --out DATA/{{ source.name }}
```

| option | default | |
|---|---|---|
{% for option in options -%}
| `--{{ option.name }}` | {{ option.default }} | {{ option.help }} |
{% endfor %}"""

_INDEX = """# Corpora

Written by `python -m data_scripts.pages`.

| corpus | films | licence | access | shares films with |
|---|---:|---|---|---|
{% for page in pages -%}
| [{{ page.source.title }}]({{ page.source.name }}.md) | {{ page.size }} | {{ page.source.licence }} | {{
page.source.access }} | {{ page.related | join(", ") }} |
{% endfor %}"""


@dataclass
class PagesArguments:
    """Arguments of `data_scripts.pages`."""

    out: str = field(metadata={"help": "Folder for the pages; those of these loaders are replaced."})
    loaders: list[str] = field(default_factory=list, metadata={"help": "Only these; default: all."})


def write_pages(out: Path, loaders: tuple[str, ...] = LOADERS) -> list[Path]:
    """Write `NAME.md` for each loader, and `README.md` with a table of them; the paths.

    Raises:
        DataError: there is no such loader.
    """
    modules = {name: load_loader(name) for name in loaders}
    out.mkdir(parents=True, exist_ok=True)
    environment = Environment(autoescape=False, keep_trailing_newline=True)
    pages = [corpus_page(module) for module in modules.values()]
    paths = []
    for page in pages:
        paths.append(out / f"{page['source'].name}.md")
        paths[-1].write_text(environment.from_string(_PAGE).render(**page).rstrip() + "\n")
    index = out / "README.md"
    index.write_text(environment.from_string(_INDEX).render(pages=pages))
    return [*paths, index]


def corpus_page(module: ModuleType) -> dict:
    """What the page of a loader says, by the names of its template."""
    source = module.SOURCE
    related = related_corpora(source)
    exposures = [trap.removeprefix(_LEAK) for trap in source.traps if trap.startswith(_LEAK)]
    indirect = sorted(sharing_films(source.name) - {*related})
    shared = [f"Its films, or films of its patients, are also in {_listed(related)}."] if related else []
    shared += [f"Through these it may share films with {_listed(indirect)}."] if indirect else []
    return {
        "source": source,
        "access": ACCESS[source.access],
        "size": f"{sum(source.expected.values()):,}" if source.expected else "depends on the copy",
        "splits": _splits(module),
        "related": related,
        "leaks": [exposure[0].upper() + exposure[1:] for exposure in exposures] + shared,
        "traps": [trap for trap in source.traps if not trap.startswith(_LEAK)],
        "layout": (module.__doc__ or "").strip(),
        "raw": "" if source.access == "synthetic" else " --raw DOWNLOAD",
        "options": [_option(option) for option in dataclasses.fields(module.Options) if option.metadata.get("help")],
    }


def related_corpora(source: Source) -> list[str]:
    """Loaders whose corpora share films or patients with this one, told by either of the two."""
    return sorted({*source.shares_films_with, *parts_of(source.name)})


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _splits(module: ModuleType) -> str:
    expected = module.SOURCE.expected
    parts = []
    if len(expected) > 1:
        counts = ", ".join(f"{split} {count:,}" for split, count in expected.items())
        parts.append(f"Of the complete corpus: {counts}.")
    elif expected:
        (split,) = expected
        parts.append(f"One part, read as {split}.")
    for option in dataclasses.fields(module.Options):
        if option.name in ("validation_share", "test_share"):
            parts.append(f"`--{option.name}`, by default {option.default}: {option.metadata['help']}")
    return " ".join(parts or ["As the data say."])


def _option(option: dataclasses.Field) -> dict:
    default = option.default if option.default is not dataclasses.MISSING else None
    if option.default_factory is not dataclasses.MISSING:
        default = " ".join(map(str, option.default_factory()))
    shown = "" if default is None or default is False or default == "" else f"`{default}`"
    return {"name": option.name, "default": shown, "help": option.metadata["help"].replace("|", "\\|")}


def main(arguments: list[str] | None = None) -> None:
    try:
        (parsed,) = HfArgumentParser(PagesArguments, prog=command_name()).parse_args_into_dataclasses(arguments)
        paths = write_pages(Path(parsed.out), tuple(parsed.loaders) or LOADERS)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{len(paths) - 1} corpora: {paths[-1]}")


if __name__ == "__main__":
    main()
