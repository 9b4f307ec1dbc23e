"""The page: a film goes in, findings, reports and masks come out. Needs gradio.

Gradio writes an upload to its temporary folder (GRADIO_TEMP_DIR, else `gradio` in the system's); the file is deleted
as soon as it has been read, and a sweep deletes what an interrupted upload leaves. From then on the film is in the
session's memory alone, and in the page as part of its HTML. Nothing is logged.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from .films import FORMATS, MAX_BYTES, FilmError, read_film, reasons_against
from .findings import parse_findings
from .models import Reading, SpaceModels
from .pictures import findings_html, image_html, labels_html, legend_html, overlay, readable, reports_html

NOTICE = "For research; not a medical device. Do not use it to decide on a patient's care."
NO_PROBABILITY = (
    "Scores rank films by one finding; they are <b>not probabilities</b>, and those of two findings cannot be compared."
)
NO_FILM = "What is shown for it may mean nothing."
REPORTS_SHOWN = 3
#: Seconds after which a film is forgotten, and between two sweeps of the temporary folder.
FORGET_AFTER = 1800
_SWEEP = 60
_SUFFIXES = [".png", ".jpg", ".jpeg", ".dcm", ".dicom"]

STYLE = """
.notice {background:#8a1c1c; color:#fff; padding:.5em .9em; border-radius:6px; font-weight:600}
.film {width:100%; max-width:560px; border-radius:6px; display:block}
.empty {opacity:.7; padding:1em 0}
.message {border-left:4px solid #b3261e; background:rgba(179,38,30,.1); padding:.6em .9em; margin:.6em 0}
.legend {list-style:none; padding:0; margin:.4em 0; display:flex; flex-wrap:wrap; gap:.2em 1.1em}
.legend li {margin:0}
.swatch {display:inline-block; width:.9em; height:.9em; margin-right:.4em; border:1px solid #555; vertical-align:-.1em}
table.scores {width:100%; border-collapse:collapse}
table.scores, table.scores * {border-left:0 !important; border-right:0 !important; border-top:0 !important}
table.scores td, table.scores th {text-align:left; padding:.2em .5em; border:0}
table.scores tr {border-bottom:1px solid var(--border-color-primary)}
.bar {background:var(--border-color-primary); height:.7em; min-width:8em; border-radius:3px}
.bar div {background:#2f6f9f; height:100%; border-radius:3px}
.reports li {margin:.5em 0}
small {opacity:.75; color:inherit !important}
.caption {margin:.3em 0}
"""
_EMPTY = '<div class="empty">Upload a film, or choose an example.</div>'


def build_page(models: SpaceModels) -> gr.Blocks:
    """The page with its events; `launch` serves it."""
    settings = models.settings
    handlers = _Handlers(models)
    names = [readable(models.segmentation.names[n]) for n in models.structures]
    with gr.Blocks(title=settings["title"], analytics_enabled=False, delete_cache=(_SWEEP, FORGET_AFTER)) as page:
        gr.HTML(f'<h1>{escape(settings["title"])}</h1><div class="notice">{NOTICE}</div>')
        reading = gr.State(None, time_to_live=FORGET_AFTER)
        with gr.Row():
            with gr.Column(scale=2, min_width=340):
                upload = _FilmFile(
                    label=f"Frontal chest film: {', '.join(FORMATS)} or DICOM, up to {MAX_BYTES // 2**20} MB",
                    file_types=_SUFFIXES,
                    height=160,
                )
                example = gr.Radio(
                    [file.stem for file in models.examples], label="Examples", visible=bool(models.examples)
                )
                film = gr.HTML(_EMPTY)
                phrase = gr.Textbox(
                    label="Where is …",
                    info="a finding or phrase: press Enter for its heat map, which shows what the score rests on",
                    visible=models.can_point,
                )
                structures = gr.CheckboxGroup(names, value=names, label="Predicted masks", visible=bool(names))
            with gr.Column(scale=3, min_width=420):
                gr.HTML(f"<h3>Findings by prompt</h3><small>{NO_PROBABILITY}</small>")
                scores = gr.HTML(_EMPTY)
                with gr.Accordion("Edit the findings", open=False):
                    wanted = gr.Textbox(
                        "\n".join(settings["findings"]),
                        lines=6,
                        max_lines=14,
                        label="One finding per line",
                        info="or with a pair of prompts: finding: text with it | text without it",
                    )
                    with gr.Row():
                        positive = gr.Textbox(settings["positive_prompt"], label="Prompt with the finding")
                        negative = gr.Textbox(settings["negative_prompt"], label="Prompt without it")
                    again = gr.Button("Score again", size="sm")
                labels = gr.HTML(_EMPTY, visible=models.classification is not None)
                reports = gr.HTML(_EMPTY, visible=models.reports is not None)
        gr.HTML(_about(models))

        prompts = [wanted, positive, negative]
        # The phrase too: it was asked of the film before.
        outputs = [reading, film, scores, labels, reports, phrase]
        upload.upload(
            handlers.open_upload, [upload, structures, *prompts], [*outputs, upload, example], api_name="read_film"
        )
        # `input` and not `change`, which would also follow when an upload clears the choice.
        example.input(handlers.open_example, [example, structures, *prompts], outputs, api_name="read_example")
        again.click(handlers.score, [reading, *prompts], scores, api_name="score_findings")
        phrase.submit(handlers.point, [reading, structures, phrase], film, api_name="show_where")
        structures.change(
            handlers.draw, [reading, structures], film, api_name="show_structures", show_progress="hidden"
        )
    return page


def launch(page: gr.Blocks, **options) -> None:
    """Serve the page: here on http://127.0.0.1:7860, in a Space or elsewhere as GRADIO_SERVER_NAME and _PORT say."""
    # httpx reports every request of gradio's own start-up check.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Fonts of the reader's machine: the page asks nothing of other hosts.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    page.launch(
        theme=theme,
        css=STYLE,
        max_file_size=MAX_BYTES,
        footer_links=[],
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        **options,
    )


class _FilmFile(gr.File):
    """Gives its handler the path of the upload as it is.

    `gr.File` itself leaves an empty temporary file behind each upload, and refuses other suffixes before a handler
    could delete the file.
    """

    # Drawn in the browser as gr.File is.
    is_template = True

    def preprocess(self, payload) -> str | None:
        return None if payload is None else payload.path


def _reasons(reading: Reading) -> str:
    """What speaks against a film, above it."""
    return "".join(_message(f"{reason} {NO_FILM}") for reason in reading.reasons)


class _Handlers:
    """What the events of the page do. What is wrong with the input comes back as a plain sentence in its place."""

    def __init__(self, models: SpaceModels):
        self.models = models
        self.numbers = {readable(models.segmentation.names[n]): n for n in models.structures}

    def open_upload(self, upload: str | None, structures: list[str], *prompts: str) -> tuple:
        """Outputs of the page for an uploaded file, which is deleted, and None for the two choices of a film."""
        if upload is None:
            return *self._refuse("No file has arrived: upload a film."), None, None
        try:
            return *self._open(Path(upload), structures, prompts), None, None
        finally:
            _delete_upload(Path(upload))

    def open_example(self, name: str, structures: list[str], *prompts: str) -> tuple:
        files = {file.stem: file for file in self.models.examples}
        if name not in files:
            return self._refuse("There is no such example.")
        return self._open(files[name], structures, prompts)

    def score(self, reading: Reading | None, *prompts: str) -> str:
        """The table of findings; `prompts`: lines of findings, positive and negative template."""
        if reading is None:
            return _message("There is no film, or it has been forgotten: upload it again.")
        try:
            findings = parse_findings(*prompts)
        except ValueError as error:
            return _message(str(error))
        scores, ranks = self.models.score(reading, findings)
        verdicts = self.models.verdicts(findings, scores)
        return findings_html(findings, scores, ranks, verdicts) + _about_points(verdicts)

    def draw(self, reading: Reading | None, structures: list[str]) -> str:
        """The film with the masks of the chosen structures, and their legend; above it what speaks against it."""
        if reading is None:
            return _EMPTY
        chosen = {self.numbers[name]: reading.masks[self.numbers[name]] for name in structures}
        film = image_html(overlay(reading.shown, chosen), "chest film")
        legend = legend_html(self.models.segmentation.names, chosen) if chosen else ""
        caption = '<div class="caption"><small>Cut to the square that the model sees.</small></div>'
        return f"{_reasons(reading)}{film}{caption}{legend}"

    def point(self, reading: Reading | None, structures: list[str], phrase: str) -> str:
        """The film under the heat map of a phrase; with the masks again where the phrase is empty."""
        if reading is None or not phrase.strip():
            return self.draw(reading, structures)
        try:
            picture = self.models.point(reading, phrase.strip())
        except ValueError as error:
            return _message(str(error))
        said = (
            f"Warm: what speaks most for “{escape(phrase.strip())}”. It is no outline of a finding, may be wrong, "
            "and is there on films without the finding, too."
        )
        film = image_html(picture, "chest film under a heat map")
        return f'{_reasons(reading)}{film}<div class="caption"><small>{said}</small></div>'

    def _open(self, file: Path, structures: list[str], prompts: Sequence[str]) -> tuple:
        try:
            image = read_film(file)
            reading = self.models.read(image)
            reading.reasons = reasons_against(image)
        except (FilmError, ValueError) as error:
            return self._refuse(str(error))
        panels = self._text_panels(reading)
        return reading, self.draw(reading, structures), self.score(reading, *prompts), *panels, ""

    def _refuse(self, message: str) -> tuple:
        """Nothing of an earlier film stays beside the message."""
        return None, _message(message), "", "", "", ""

    def _text_panels(self, reading: Reading) -> tuple[str, str]:
        labels = reports = ""
        if self.models.classification is not None:
            note = "Outputs of a classifier trained on labels; how often they are right has not been checked here."
            verdicts = reading.label_verdicts
            table = labels_html(self.models.classification.names, reading.label_outputs, verdicts)
            labels = f"<h3>Trained classifier</h3><small>{note}</small>{table}{_about_points(verdicts)}"
        if self.models.reports is not None:
            note = escape("; ".join(self.models.settings["report_sources"]))
            entries = reports_html(self.models.nearest_reports(reading, REPORTS_SHOWN))
            reports = f"<h3>Nearest reports</h3><small>Written about other films. {note}</small>{entries}"
        return labels, reports


def _about_points(verdicts: Sequence[bool | None]) -> str:
    """What a reader must know of operating points, where some are shown."""
    return (
        f"<small>{escape(SpaceModels.about_points)}</small>" if any(verdict is not None for verdict in verdicts) else ""
    )


def _message(text: str) -> str:
    return f'<div class="message" role="alert">{escape(text)}</div>'


def _delete_upload(file: Path) -> None:
    """Delete an upload and its folder; files elsewhere are none."""
    if file.resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            file.parent.rmdir()


def _about(models: SpaceModels) -> str:
    name = escape(models.settings["name"])
    ranked = ""
    if models.reports is not None:
        ranked = (
            f" Ranks are among {len(models.reports.film_embeddings):,} reference films, reports the nearest of "
            f"{len(models.reports.texts):,}."
        )
    return (
        f"<small>Model: {name}.{ranked} Uploaded films are deleted from disk once read, kept in memory for at most "
        f"{FORGET_AFTER // 60} minutes, and not logged. Still, upload no film that names a patient.</small>"
    )
