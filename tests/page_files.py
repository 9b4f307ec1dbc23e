"""The code of the page as a Space holds it, for tests: in the checkout it lacks the files that are copied beside it."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from model_cards.space.__main__ import copy_code


def load_page_films(folder: Path) -> ModuleType:
    """Write the page's code to `folder` and return its module `space_app.films` from there."""
    copy_code(folder)
    package = folder / "space_app"
    spec = importlib.util.spec_from_file_location("written_space_app", package / "__init__.py")
    spec.submodule_search_locations = [str(package)]
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    for name in ("dicom_display", "input_check_chexficient", "films"):
        # Not that of a folder before.
        sys.modules.pop(f"{spec.name}.{name}", None)
    return importlib.import_module(f"{spec.name}.films")
