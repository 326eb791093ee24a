#!/usr/bin/env bash
# All that needs a GPU, once: the tests marked gpu, latencies, and one real study. A step that fails stops no other.
#
#   bash benchmarks/gpu_check.sh [check] [tests] [plain] [compiled] [speed] [short] [study]      all where none is named
#
# Files go to $OUT (results/reference where it is unset), eight at most. `check` says which packages are missing; put a
# folder with them on PYTHONPATH. Steps that would outlast a limit on one command: name them in commands of their own.
# Knobs: PYTHON, STUDY, EPOCHS, TRAIN (pictures), BATCHES, DTYPES, and LIMIT (seconds for one step). PICTURES, a folder
# of train/CLASS and val/CLASS, is what `speed` and `short` train on.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-results/reference}
python=${PYTHON:-python3}
study=${STUDY:-studies/block_mix.yaml}
epochs=${EPOCHS:-3}
train=${TRAIN:-1500}
limit=${LIMIT:-540}
pictures=${PICTURES:-}
read -ra batches <<<"${BATCHES:-1 64}"
read -ra dtypes <<<"${DTYPES:-fp32 tf32 bf16}"
mkdir -p "$out"
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
summary=$out/summary.txt

# ---- the steps

check() {
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.used --format=csv || true
    "$python" - <<'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, version

NEEDED = {
    "tests": ("torch", "timm", "fvcore", "iopath", "yacs", "termcolor", "portalocker", "pytest"),
    "latencies": ("torch", "torchvision", "timm"),
    "the study": ("pydantic", "pydantic_core", "pyyaml", "optuna", "pandas", "tabulate", "matplotlib", "pillow",
                  "typer", "rich"),
    "speed and short": ("scipy", "pyyaml", "pillow"),
    "the study without --serial": ("ray",),
}


def found(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


print("python", sys.version.split()[0])
for what, names in NEEDED.items():
    versions = {name: found(name) for name in names}
    print(f"for {what}:", ", ".join(f"{name} {known}" for name, known in versions.items() if known))
    if missing := [name for name, known in versions.items() if not known]:
        print(f"  MISSING: {' '.join(missing)}")
import torch

print("cuda", torch.version.cuda, "cudnn", torch.backends.cudnn.version(), torch.cuda.get_device_name())
PYTHON
}

tests() {
    "$python" -c "import torch; raise SystemExit(not torch.cuda.is_available() and 'no CUDA: all would be skipped')" &&
        "$python" -m pytest -q -m gpu -p no:cacheprovider --continue-on-collection-errors
}

plain() {
    "$python" benchmarks/latency.py --device cuda --dtypes "${dtypes[@]}" --batches "${batches[@]}" --seconds 5 \
        --csv "$out/latency_plain.csv"
}

# Each network compiles for half a minute or more in each setting, so only S and its variants do. The important
# settings come first: what is done when the time is up is kept.
compiled() {
    "$python" benchmarks/latency.py --device cuda --dtypes bf16 fp32 --batches "${batches[@]}" --seconds 5 \
        --ways compiled --networks norms --csv "$out/latency_compiled.csv"
}

# S itself at the paper's side: our loop, timm's with all cores, and the step alone; plain, then compiled.
speed() {
    [ -d "$pictures" ] || { echo "PICTURES=$pictures is no folder" && return 1; }
    local way
    for way in "" "--compile" "--compile --cuda-graphs"; do
        # shellcheck disable=SC2086  # two words
        "$python" benchmarks/train_speed.py "$pictures" --width 1 --side 448 --batch 64 --workers "$(nproc)" --epochs 2 \
            $way || return 1
    done | tee "$out/train_speed.md" || return 1
    "$python" benchmarks/cache.py --source "folder:$pictures" --side 448 --workers "$(nproc)" | tee "$out/cache.md"
}

short() {
    [ -d "$pictures" ] || { echo "PICTURES=$pictures is no folder" && return 1; }
    "$python" benchmarks/short_training.py --pictures "$pictures" --width 1 --side 448 --workers "$(nproc)" \
        --set lr=5e-4 | tee "$out/short_training.md"
}

study() {
    local results
    results=$(mktemp -d)/study
    "$python" run_study.py "$study" --profile gpu --serial --results "$results" --set recipe.epochs="$epochs" \
        --set recipe.warmup_epochs=1 --set data.train="$train" --set seeds=1
    local failed=$?
    tar -czf "$out/study.tar.gz" -C "$(dirname "$results")" --exclude=pictures --exclude=checkpoints study || failed=1
    return "$failed"
}

# ---- one after the other

step() {
    local started=$SECONDS
    echo "==== $1"
    # A shell of its own, so that the limit holds for functions too; its log is kept even where it is cut off.
    timeout --kill-after=20 "$limit" bash benchmarks/gpu_check.sh --step "$1" 2>&1
    local rc=$?
    local said=ok
    [ "$rc" -eq 0 ] || said="FAILED (exit $rc$([ "$rc" -eq 124 ] && echo ", over $limit s"))"
    printf '%-10s %-28s %5d s\n' "$1" "$said" $((SECONDS - started)) >>"$summary"
    return "$rc"
}

if [ "${1:-}" = --step ]; then
    "$2"
    exit
fi
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(check tests plain compiled speed short study)
for name in "${wanted[@]}"; do
    case $name in
    check | tests | plain | compiled | speed | short | study) ;;
    *) echo "$name is no step; choose from check, tests, plain, compiled, speed, short, study" >&2 && exit 2 ;;
    esac
done
: >"$summary"
failures=0
for name in "${wanted[@]}"; do
    step "$name" > >(tee -a "$out/gpu_check.log") || failures=$((failures + 1))
done
sleep 1 # for tee
echo "==== summary, in $out"
cat "$summary"
exit $((failures > 0))
