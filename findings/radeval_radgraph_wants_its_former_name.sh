#!/usr/bin/env bash
# RadEval 2.2.1 is the package `radeval`, and its copy of RadGraph imports itself as `RadEval`, as the package was called
# before. Where file names tell capitals apart (Linux) there is no such package, so the metrics `radgraph`, `radcliq` and
# `radgraph_radcliq` end in "No module named 'RadEval'" in every installation.
# Why it matters: RadGraph F1 is what most papers report of generated reports beside BLEU. The cure for a user is one line
# before: `import sys, radeval; sys.modules["RadEval"] = radeval`.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "torch==2.13.0" "transformers==5.23.0" "numpy==2.4.6" "dotmap==1.3.30" \
    "nltk==3.10.4" "h5py==3.16.0" "jsonpickle==4.1.4" "filelock" "rich" "requests" "appdirs"
"$place/venv/bin/pip" install --quiet --no-deps "radeval==2.2.1"
cat > "$place/former_name.py" <<'PY'
import importlib.metadata
import sys

import radeval

print("radeval", importlib.metadata.version("radeval"))
try:
    radeval.RadEval(metrics=["radgraph"])
except ModuleNotFoundError as error:
    print("as it is:", error)
    missing = error.name
else:
    missing = None
sys.modules["RadEval"] = radeval
try:
    radeval.RadEval(metrics=["radgraph"])
except Exception as error:
    print("with the former name:", type(error).__name__, str(error).splitlines()[0][:100])
    beyond = not (isinstance(error, ModuleNotFoundError) and error.name.startswith("RadEval"))
else:
    beyond = True
sys.exit(0 if missing == "RadEval" and beyond else "changed: radgraph is found by the package's name")
PY
HF_HUB_OFFLINE=1 "$place/venv/bin/python" "$place/former_name.py"
