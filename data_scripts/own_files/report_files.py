"""Report texts as they lie in somebody's folders, matched with films by accession number, path or name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_scripts.own_files.films import Film
from data_scripts.reading.encodings import decode_text
from data_scripts.schema import DataError, Skipped


class ByName:
    """Files by their path below a folder and by their name, both without suffix."""

    def __init__(self, paths: list[tuple[str, str]]):
        """`paths` holds (path below the folder without suffix, file) pairs."""
        self.by_path = dict(paths)
        self.by_stem: dict[str, list[str]] = {}
        for path, file in paths:
            self.by_stem.setdefault(Path(path).name, []).append(file)
        self.is_flat = all(Path(path).name == path for path in self.by_path)

    def find(self, key: str) -> str | None:
        """The file at the path `key`; for a bare name the only file of that name, wherever it lies.

        Raises:
            DataError: several have the name, so that each could be meant.
        """
        return self.by_path[key] if key in self.by_path else self.only(key)

    def only(self, key: str) -> str | None:
        """The only file of that name; errors as of `find`."""
        files = self.by_stem.get(key, [])
        if len(files) > 1:
            raise DataError(f"several files are called {key!r}: {files[:3]}", "name is not unique")
        return files[0] if files else None


class Accessions:
    """Films by the accession number of their header, and which numbers tell no study.

    Numbers begin anew at other sites and after years: a number with several patients or studies is nobody's.
    """

    def __init__(self, films: Iterable[Film]):
        self.paths: dict[str, list[str]] = defaultdict(list)
        owners: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
        for film in films:
            number = film.get("AccessionNumber")
            if number:
                self.paths[number].append(film.path)
                for field, found in zip(("PatientID", "StudyInstanceUID"), owners[number], strict=True):
                    found.update({film.get(field)} - {""})
        self.shared = {
            number: f"{len(patients)} patients" if len(patients) > 1 else f"{len(studies)} studies"
            for number, (patients, studies) in owners.items()
            if len(patients) > 1 or len(studies) > 1
        }

    def check(self, number: str) -> None:
        """Raise `DataError` if films of several patients or studies have the number."""
        if number in self.shared:
            raise DataError(
                f"accession number {number!r} is that of {self.shared[number]} ({self.paths[number][:3]}): whose "
                "report is it? Name the films of a report by their path",
                "accession number is not unique",
            )

    def check_name(self, name: str, path: str) -> None:
        """Raise `DataError` if the name of the film at `path` is the accession number of other films."""
        if name in self.paths and path not in self.paths[name]:
            raise DataError(
                f"{name!r} is the name of {path} and the accession number of {self.paths[name][:3]}: whose "
                "report is it?",
                "name is another film's accession number",
            )


class ReportFiles:
    """Texts below a folder; it keeps account of those that no film asked for."""

    def __init__(self, raw: Path, folder: str, films: list[str], accessions: Accessions, encoding: str | None = None):
        """`films` holds the paths of all films (below the folder of images, no suffix); `encoding` is that of texts."""
        root = raw / folder
        if not root.is_dir():
            raise DataError(f"{root}: there is no such folder of reports (--reports)")
        self.raw, self.accessions, self.encoding = raw, accessions, encoding
        self.films_called = Counter(Path(film).name for film in films)
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() == ".txt")
        self.files = ByName([(str(path.relative_to(root).with_suffix("")), str(path)) for path in paths])
        self.unused = dict.fromkeys(str(path) for path in paths)

    def text_of(self, film: Film, path: str) -> str:
        """The report named after the film's accession number, else after its `path` (below the folder of images, no
        suffix), else after its name; "" if there is none.

        Raises:
            DataError: several reports could be meant, or it is not sure that the one of its name is of this film.
        """
        own = self.files.by_path.get(path)
        # A report in the folder of the film is this film's, whatever its number.
        is_sure = own is not None and "/" in path
        file = self._of_accession(film.get("AccessionNumber"), own, is_sure)
        if file is None:
            file = own or self._of_name(path)
            if file is not None and not is_sure:
                self.accessions.check_name(Path(file).stem, film.path)
        if file is None:
            return ""
        self.unused.pop(file, None)
        return read_text(Path(file), self.encoding)

    def _of_accession(self, number: str, own: str | None, is_sure: bool) -> str | None:
        files = self.files.by_stem.get(number, []) if number else []
        if not files or (len(files) == 1 and number not in self.accessions.shared):
            return files[0] if files else None
        if is_sure or (own is not None and own not in files):
            return own
        if number in self.accessions.shared:
            for file in files:
                self.unused.pop(file, None)
            self.accessions.check(number)
        return self.files.only(number)

    def _of_name(self, path: str) -> str | None:
        name = Path(path).name
        if name not in self.files.by_stem:
            return None
        if self.films_called[name] > 1:
            raise DataError(
                f"several films are called {name!r}, none of the reports is {path}.txt", "name is not unique"
            )
        if path != name and not self.files.is_flat:
            found = self.files.by_stem[name][0]
            raise DataError(f"there is no {path}.txt, and {found} lies in another folder", "report in another folder")
        return self.files.find(name)

    def left_over(self) -> Iterator[Skipped]:
        for file in self.unused:
            reason = "no film has its name as accession number or file name"
            yield Skipped(str(Path(file).relative_to(self.raw)), reason, "report without a film")


def read_text(path: Path, encoding: str | None = None) -> str:
    """The text of a report file; see `decode_text` for encodings.

    Raises:
        DataError: the file cannot be opened, or is no text in an encoding that is known.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the report cannot be opened ({error})", "report not readable") from error
    try:
        return decode_text(content, str(path), encoding).strip()
    except DataError as error:
        raise DataError(str(error), "report not readable") from error
