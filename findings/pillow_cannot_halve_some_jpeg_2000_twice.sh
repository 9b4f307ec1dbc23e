#!/usr/bin/env bash
# Pillow reads a JPEG 2000 file at a half, a quarter ... of its size by `image.reduce = 1, 2 ...`, but not where a side
# divided by 4, 8 ... has a remainder below a half: it expects the side rounded, OpenJPEG makes it rounded up, and a
# sound file is called a "broken data stream".
# Why it matters: reduced decoding makes reading large films many times as fast. Films of 1,841 x 1,955 px, as detectors
# make them, are refused at a quarter; who catches the error takes a sound film for a damaged one.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "pillow==13.0.0"
cd "$place"
"$place/venv/bin/python" - <<'PY'
import io

import PIL
from PIL import Image, features

print("Pillow", PIL.__version__, "OpenJPEG", features.version("jpg_2000"))


def reduced(width: int, times: int) -> str:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, 256)).save(file, "JPEG2000", no_jp2=True)
    image = Image.open(io.BytesIO(file.getvalue()))
    image.reduce = times
    try:
        image.load()
    except OSError as error:
        return str(error)
    return f"{image.width} x {image.height}"


seen = {(width, times): reduced(width, times) for width in (256, 257, 259) for times in (0, 1, 2)}
for (width, times), result in seen.items():
    print(f"{width} x 256 reduced by {2**times}: {result}")
assert seen[256, 2] == "64 x 64" and seen[259, 2] == "65 x 64" and seen[257, 1] == "129 x 128"
assert "broken data stream" in seen[257, 2], "mended: a side of 257 can be reduced by 4"
PY
