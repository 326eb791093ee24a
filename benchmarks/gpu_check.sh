#!/usr/bin/env bash
set -uo pipefail

usage() {
    cat <<'TEXT'
Run every check that needs a GPU: the tests marked gpu, latencies, training speed, dense methods, trainings, a study.

  bash benchmarks/gpu_check.sh [--rehearse] [STEP ...]
  bash benchmarks/gpu_check.sh --help

Without STEP all steps run, in this order. A step that fails does not stop the next one; the exit code is then 1.
  check     versions of the packages, and which are missing (put a folder with them on PYTHONPATH)
  tests     the tests marked gpu
  plain     latencies without torch.compile, on CUDA also as CUDA graphs
  compiled  latencies with torch.compile
  speed     images per second of our training loop, of timm's loop, and of the step alone; the image cache
  short     a short training, ours next to timm's
  dense     training steps of the methods of detection and segmentation: images per second, memory
  full      one training of a full network on all cards by `hiri-search train`, stopped and continued
  study     a study through Ray with SLOTS trials side by side, and its trials per hour

--rehearse runs the same steps on the CPU with tiny settings, in about three minutes on two cores. Run it before a GPU is rented.

Output goes to OUT, a file or two for each step: tables, gpu_check.log, summary.txt, study.tar.gz. Every knob is an environment variable:
  OUT       results/reference; a temporary folder with --rehearse
  PYTHON    python3; with --rehearse .venv/bin/python if it exists
  LIMIT     540: seconds for one step; a step that takes longer is stopped and counts as failed
  TOGETHER  1, with --rehearse 2: steps that run side by side; more than one disturbs the times that they measure
  IMAGES    folder with train/CLASS and val/CLASS for `speed`, `short`, `full`; with --rehearse random images if unset
  WIDTH     1: divisor of widths and depths of HIRI-ViT networks in plain, compiled, speed and short
  SIDE      448: pixels of the input in the same steps
  BATCH     64: batch size of `speed` and `short`
  WORKERS   number of cores: processes of timm's loader
  DTYPES, BATCHES, NETWORKS, COMPILED_DTYPES, COMPILED_NETWORKS   lists for `plain` and `compiled`, important ones first
  MEASURE   3: limit in seconds for one network in one setting, in plain, compiled and study
  WAYS      "plain compile cuda-graphs": training steps that `speed` measures
  NETWORK   hirivit_small: network that `speed` trains, a name or a spec
  SPEED_EPOCHS   2: epochs that `speed` counts
  DENSE_METHODS, DENSE_SIDE, DENSE_BATCH   all, 512, 8: what `dense` trains
  FULL_NETWORK, FULL_EPOCHS   HIRI-ViT-S, 4: what `full` trains on IMAGES, at SIDE
  SEEDS, SHORT_EPOCHS   1, 12: trainings of each kind in `short`, and their epochs
  STUDY     studies/block_mix.yaml
  SLOTS     3: trials side by side on one card; a list, such as "1 3", runs the study once for each number
  EPOCHS, TRAIN, VAL   3, 1500, 400: epochs and images of the study
  STUDY_SEEDS   1
  SETS      more KEY=VALUE words for the study, without blanks inside

Small stand-ins, one after another and then side by side on one card:
  SLOTS="1 3" SETS="proxy.width=4 proxy.depth=4 proxy.side=64" bash benchmarks/gpu_check.sh study
The rows of Table 8 at full width on photographs:
  SETS="data.source=folder:PATH proxy.side=224" EPOCHS=20 TRAIN=null VAL=null bash benchmarks/gpu_check.sh study
TEXT
}

# ---- knobs

# Set a knob that the caller has left unset, for this script and for the steps.
knob() {
    [ -n "${!1:-}" ] || printf -v "$1" '%s' "$2"
    export "${1?}"
}

# Everything that a rehearsal changes: values of knobs and the environment, never a command line.
rehearsal_knobs() {
    export CUDA_VISIBLE_DEVICES="" # the CPU, even where there is a GPU
    export OMP_NUM_THREADS=1       # several threads wait for each other on a loaded machine
    export TMPDIR=$WORK            # caches of the compiler and all temporary files go with it
    export HIRI_SEARCH_CACHE=$WORK/cache
    knob OUT "$WORK/out"
    [ ! -x .venv/bin/python ] || knob PYTHON .venv/bin/python
    knob DEVICE cpu
    knob LIMIT 170
    knob TOGETHER 2
    knob WIDTH 4
    knob SIDE 64
    knob BATCH 4
    knob WORKERS 1
    knob DTYPES "fp32 bf16"
    knob BATCHES 1
    knob NETWORKS "hirivit_small timm:swin_tiny_patch4_window7_224@224 norms"
    knob COMPILED_DTYPES fp32
    knob COMPILED_NETWORKS hirivit_small
    knob MEASURE 0.1
    knob WAYS "plain compile"
    knob NETWORK "hr(32 e=4) -> t(64 e=4)" # two stages: a compilation takes a third of the time
    knob SPEED_EPOCHS 1
    knob SHORT_EPOCHS 2
    knob FULL_NETWORK "hr(16 e=4) -> t(32 e=2 d=16)"
    knob FULL_EPOCHS 2
    knob DENSE_METHODS "retinanet upernet"
    knob DENSE_SIDE 64
    knob DENSE_BATCH 2
    knob SLOTS 2
    knob EPOCHS 2
    knob TRAIN 32
    knob VAL 16
    knob SETS "proxy.width=4 proxy.depth=4 proxy.side=64 recipe.batch=16 latency.batch=1"
}

knobs() {
    knob OUT results/reference
    knob PYTHON python3
    knob DEVICE cuda
    knob LIMIT 540
    knob TOGETHER 1
    knob IMAGES ""
    knob WIDTH 1
    knob SIDE 448
    knob BATCH 64
    knob WORKERS "$(nproc)"
    knob DTYPES "bf16 fp32 tf32"
    knob BATCHES "64 1"
    knob NETWORKS "hirivit_small hirivit_base hirivit_large timm:swin_tiny_patch4_window7_224@224 \
timm:swin_base_patch4_window7_224@224 timm:resnet50@224 norms"
    # Each network compiles for half a minute or more in each setting, so only S and its variants are compiled.
    knob COMPILED_DTYPES "bf16 fp32"
    knob COMPILED_NETWORKS norms
    knob MEASURE 3
    knob WAYS "plain compile cuda-graphs"
    knob NETWORK hirivit_small
    knob SPEED_EPOCHS 2
    knob FULL_NETWORK HIRI-ViT-S
    knob FULL_EPOCHS 4
    knob DENSE_METHODS "retinanet atss gfl mask_rcnn cascade_rcnn sparse_rcnn upernet"
    knob DENSE_SIDE 512
    knob DENSE_BATCH 8
    knob SEEDS 1
    knob SHORT_EPOCHS 12
    knob STUDY studies/block_mix.yaml
    knob SLOTS 3
    knob EPOCHS 3
    knob TRAIN 1500
    knob VAL 400
    knob STUDY_SEEDS 1
    knob SETS ""
}

# ---- the steps

check() {
    ! command -v nvidia-smi || nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.used --format=csv
    "$PYTHON" - "$DEVICE" <<'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, version

NEEDED = {
    "tests": ("torch", "timm", "fvcore", "iopath", "yacs", "termcolor", "portalocker", "pytest"),
    "plain and compiled": ("torch", "torchvision", "timm"),
    "speed and short": ("scipy", "pyyaml", "pillow"),
    "dense": ("faster-coco-eval",),
    "study": ("ray", "pydantic", "pydantic_core", "pyyaml", "optuna", "pandas", "tabulate", "matplotlib", "pillow",
              "typer", "rich"),
}


def found(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


print("python", sys.version.split()[0])
for step, names in NEEDED.items():
    versions = {name: found(name) for name in names}
    print(f"for {step}:", ", ".join(f"{name} {known}" for name, known in versions.items() if known))
    if missing := [name for name, known in versions.items() if not known]:
        print(f"  MISSING: {' '.join(missing)}")
import torch

on_cuda = sys.argv[1] == "cuda"
device = torch.cuda.get_device_name() if on_cuda else "no CUDA device, as asked"
print("cuda", torch.version.cuda, "cudnn", torch.backends.cudnn.version(), device)
PYTHON
}

# Only the files with such tests are collected: the others need packages that a GPU machine may lack.
tests() {
    if [ "$DEVICE" = cuda ]; then
        "$PYTHON" -c "import torch; raise SystemExit(not torch.cuda.is_available() and 'no CUDA: every test would skip')" ||
            return 1
    fi
    local files
    mapfile -t files < <(grep -rlE 'mark\.gpu\b' tests --include='test_*.py')
    [ ${#files[@]} -gt 0 ] || { echo "no test is marked gpu" && return 1; }
    "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider --continue-on-collection-errors "${files[@]}"
}

# shellcheck disable=SC2086  # lists
plain() {
    local ways=plain
    [ "$DEVICE" != cuda ] || ways="plain cuda-graphs"
    "$PYTHON" benchmarks/latency.py --device "$DEVICE" --width "$WIDTH" --side "$SIDE" --dtypes $DTYPES --ways $ways \
        --batches $BATCHES --networks $NETWORKS --seconds "$MEASURE" --csv "$OUT/latency_plain.csv"
}

# shellcheck disable=SC2086  # lists
compiled() {
    "$PYTHON" benchmarks/latency.py --device "$DEVICE" --width "$WIDTH" --side "$SIDE" --dtypes $COMPILED_DTYPES \
        --batches $BATCHES --networks $COMPILED_NETWORKS --seconds "$MEASURE" --ways compiled \
        --csv "$OUT/latency_compiled.csv"
}

has_images() {
    [ -d "$IMAGES/train" ] || { echo "IMAGES=$IMAGES is not a folder with train/CLASS and val/CLASS" && return 1; }
}

# The plain step and the cache come first: compilation may outlast the limit.
speed() {
    has_images || return 1
    local way failed=0
    : >"$OUT/train_speed.md"
    for way in $WAYS; do
        echo "-- step: $way" | tee -a "$OUT/train_speed.md"
        train_speed "$way" | tee -a "$OUT/train_speed.md" || failed=1
        [ "$way" != plain ] || image_cache | tee "$OUT/cache.md" || failed=1
    done
    [ "$DEVICE" = cuda ] || echo "left out: cuda-graphs, which need CUDA"
    return "$failed"
}

train_speed() {
    local options=()
    case $1 in
    plain) ;;
    compile) options=(--compile) ;;
    cuda-graphs) options=(--compile --cuda-graphs) ;;
    *) echo "WAYS has $1; choose from plain, compile, cuda-graphs" && return 1 ;;
    esac
    "$PYTHON" benchmarks/train_speed.py "$IMAGES" --network "$NETWORK" --width "$WIDTH" --side "$SIDE" \
        --batch "$BATCH" --workers "$WORKERS" --epochs "$SPEED_EPOCHS" "${options[@]}"
}

image_cache() {
    "$PYTHON" benchmarks/cache.py --source "folder:$IMAGES" --side "$SIDE" --batch "$BATCH" --workers "$WORKERS"
}

short() {
    has_images || return 1
    "$PYTHON" benchmarks/short_training.py --images "$IMAGES" --width "$WIDTH" --side "$SIDE" --workers "$WORKERS" \
        --seeds "$SEEDS" --set lr=5e-4 --set epochs="$SHORT_EPOCHS" --set batch="$BATCH" | tee "$OUT/short_training.md"
}

# shellcheck disable=SC2086  # a list
dense() {
    "$PYTHON" benchmarks/dense_speed.py --methods $DENSE_METHODS --width "$WIDTH" --side "$DENSE_SIDE" \
        --batch "$DENSE_BATCH" | tee "$OUT/dense_speed.md"
}

# Killed after its first epoch, then continued by the same command.
full() {
    has_images || return 1
    local results=$WORK/full command devices
    [ "$DEVICE" = cuda ] && devices=(--gpus "$(nvidia-smi --list-gpus | wc -l)") || devices=(--processes 2)
    command=("$PYTHON" -m hiri_search train "$FULL_NETWORK" --data "folder:$IMAGES" --side "$SIDE" --recipe short
        "${devices[@]}" --set recipe.batch="$BATCH" --set recipe.epochs="$FULL_EPOCHS" --set recipe.warmup_epochs=0.5
        -o "$results")
    "${command[@]}" &
    until grep -qs '"event": "epoch"' "$results/ledger.jsonl" || ! kill -0 $! 2>/dev/null; do sleep 0.2; done
    kill -KILL $! 2>/dev/null && echo "-- killed after an epoch, and continued"
    wait $! 2>/dev/null
    "${command[@]}" | tee "$OUT/full.md"
}

study() {
    local slots failed=0
    mkdir -p "$WORK/studies"
    # Also where the limit of time comes first.
    trap 'tar -czf "$OUT/study.tar.gz" -C "$WORK" --exclude=images --exclude=checkpoints studies' EXIT
    : >"$WORK/studies/throughput.md"
    for slots in $SLOTS; do
        one_study "$slots" "$WORK/studies/slots_$slots" || failed=1
    done
    echo "-- trials per hour"
    cat "$WORK/studies/throughput.md"
    return "$failed"
}

# With SLOTS trials on a machine with one card, each trial asks Ray for 1/SLOTS of it.
one_study() {
    local slots=$1 results=$2 started=$SECONDS failed=0 word more=()
    for word in $SETS; do
        more+=(--set "$word")
    done
    echo "-- $slots side by side"
    "$PYTHON" run_study.py "$STUDY" --profile gpu --slots "$slots" --results "$results" --set recipe.epochs="$EPOCHS" \
        --set recipe.warmup_epochs=1 --set data.train="$TRAIN" --set data.val="$VAL" --set seeds="$STUDY_SEEDS" \
        --set latency.seconds="$MEASURE" "${more[@]}" || failed=1
    throughput "$results" "$slots" $((SECONDS - started)) | tee -a "$WORK/studies/throughput.md" || failed=1
    # What Ray printed helps only where the study failed.
    [ "$failed" -eq 0 ] || tail -n 40 "$results/ray.log"
    return "$failed"
}

# Trials per hour from the ledger: from the first beginning to the last end, so that Ray's start does not count.
throughput() {
    "$PYTHON" - "$@" <<'PYTHON'
import sys
from pathlib import Path

from hiri_search.study.ledger.events import TrialBegan, TrialFinished
from hiri_search.study.ledger.ledger import of_kind, read_events

folder, slots, whole = sys.argv[1:]
events = read_events(Path(folder))
began, ended = ([event.time for event in of_kind(events, kind)] for kind in (TrialBegan, TrialFinished))
if not began or not ended:
    sys.exit(f"{slots} side by side: no trial finished")
changes = sorted([(time, 1) for time in began] + [(time, -1) for time in ended])
running = most = 0
for _, change in changes:
    running += change
    most = max(most, running)
seconds = max(ended) - min(began)
rate = f"{3600 * len(ended) / seconds:.0f} trials/hour"
print(f"slots {slots}: {len(ended)} trials in {seconds:.1f} s, {rate}, at most {most} at once; command {whole} s")
PYTHON
}

# ---- rehearsal

random_images() {
    "$PYTHON" - "$1" <<'PYTHON'
import random
import sys
from pathlib import Path

from PIL import Image

for split, count in (("train", 8), ("val", 4)):
    for name in ("cat", "dog"):
        folder = Path(sys.argv[1], split, name)
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = random.Random(f"{split} {name} {number}").randbytes(3 * 48 * 40)
            Image.frombytes("RGB", (48, 40), pixels).save(folder / f"{number}.jpg")
PYTHON
}

# ---- one after the other, or a few side by side

step() {
    local started=$SECONDS rc=0 result=ok
    echo "==== $1"
    # A shell of its own, so that the limit holds for functions too; its log is kept even if it is cut off.
    timeout --kill-after=20 "$LIMIT" bash benchmarks/gpu_check.sh --step "$1" 2>&1 || rc=$?
    [ "$rc" -eq 0 ] || result="FAILED (exit $rc$([ "$rc" -eq 124 ] && echo ", over $LIMIT s"))"
    printf '%-10s %-28s %5d s\n' "$1" "$result" $((SECONDS - started)) >>"$OUT/summary.txt"
}

# Steps that run side by side show their output when they end.
logged_step() {
    if [ "$TOGETHER" -eq 1 ]; then
        step "$1" > >(tee -a "$OUT/gpu_check.log")
    else
        step "$1" >"$WORK/$1.log"
        tee -a "$OUT/gpu_check.log" <"$WORK/$1.log"
    fi
}

run_steps() {
    local name failures
    : >"$OUT/summary.txt"
    for name in "$@"; do
        until [ "$(jobs -rp | wc -l)" -lt "$TOGETHER" ]; do wait -n; done
        logged_step "$name" &
    done
    wait
    sleep 1 # for tee
    failures=$(grep -c FAILED "$OUT/summary.txt")
    printf '%-10s %-28s %5d s\n' all "$failures of $# failed" "$SECONDS" >>"$OUT/summary.txt"
    echo "==== summary, in $OUT"
    cat "$OUT/summary.txt"
    return $((failures > 0))
}

main() {
    local steps=(check tests plain compiled speed short dense full study) wanted=() rehearse="" word
    for word in "$@"; do
        case $word in
        --help | -h) usage && exit 0 ;;
        --rehearse) rehearse=yes ;;
        check | tests | plain | compiled | speed | short | dense | full | study) wanted+=("$word") ;;
        *) echo "$word is not a step; choose from ${steps[*]}, or see --help" >&2 && exit 2 ;;
        esac
    done
    WORK=$(mktemp -d)
    if [ -n "$rehearse" ] && [ ${#WORK} -gt 60 ]; then # it holds sockets, whose paths have at most 107 letters
        rmdir "$WORK"
        WORK=$(mktemp -d -p /tmp)
    fi
    export WORK
    trap 'rm -rf "$WORK"' EXIT
    [ -z "$rehearse" ] || rehearsal_knobs
    knobs
    mkdir -p "$OUT" || exit 1
    OUT=$(cd "$OUT" && pwd)
    if [ -n "$rehearse" ] && [ -z "$IMAGES" ]; then
        IMAGES=$WORK/images
        random_images "$IMAGES" || exit 1
    fi
    [ ${#wanted[@]} -gt 0 ] || wanted=("${steps[@]}")
    run_steps "${wanted[@]}"
}

cd "$(dirname "$0")/.." || exit 1
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if [ "${1:-}" = --step ]; then
    "$2" # called by `step`, with every knob in the environment
else
    main "$@"
fi
