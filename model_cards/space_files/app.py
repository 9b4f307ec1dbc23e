"""A Hugging Face Space: reading a chest film with CheXficient. `python app.py` starts it on this machine, offline."""

import os

# Read when gradio is imported: no usage figures leave the machine, and the browser keeps no history of films.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"

from pathlib import Path

from space_app.models import load_space
from space_app.page import build_page, launch

if __name__ == "__main__":
    launch(build_page(load_space(Path(__file__).parent)))
