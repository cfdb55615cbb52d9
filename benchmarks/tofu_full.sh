#!/usr/bin/env bash
# The whole of TOFU forget10 on a small model: an original and a retrained model of 4 million parameters, six methods,
# all metrics classic and sampled, then the continual run over tasks of forget01. Run again, it goes on where it stopped.
# Usage: benchmarks/tofu_full.sh [FOLDER]   (data: $LEAKBOUND_DATA or ../shared/data)
# FOLDER may hold full.jsonl, forget10.jsonl, retain_of10.jsonl, original/ and retrained/ already.
set -euo pipefail
cd "$(dirname "$0")/.."
data="${LEAKBOUND_DATA:-../shared/data}/tofu"
out="${1:-runs/tofu_full}"
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"

NUM_SAMPLES="${NUM_SAMPLES:-256}"          # draws for each forget question that is sampled
SAMPLED="${SAMPLED:-100}"                  # how many of the 400 forget questions are sampled, chosen by seed
MAX_TOKENS="${MAX_TOKENS:-100}"            # longest answer; the longest of forget10 has 104 tokens
TASKS="${TASKS:-3}"                        # tasks of the continual run; of each, SAMPLED / 2 questions are sampled
TEMPLATE=qa
LEARN=(--epochs 20 --batch-size 16 --learning-rate 1.5e-3 --schedule cosine --warmup 0.05 --template "$TEMPLATE")
UNLEARN=(--like ours --epochs 5 --batch-size 16 --learning-rate 2e-4 --schedule constant --template "$TEMPLATE")
declare -A METHODS=(
  [grad_diff]="--method grad_diff --forget-weight 0.3"
  [npo_gd]="--method npo_gd --forget-weight 0.1 --beta 1"
  [simnpo_gd]="--method simnpo_gd --forget-weight 0.3"
  [me_gd]="--method me_gd --forget-weight 0.1"
  [idk_ap]="--method idk_ap"
  [undial_gd]="--method undial_gd"
)
ORDER=(${ORDER:-grad_diff npo_gd simnpo_gd me_gd idk_ap undial_gd})
CONTINUAL=(--like ours --method me_gd --forget-weight 0.1 --epochs 5 --batch-size 16 --learning-rate 2e-4 --schedule constant)
BENCHMARK=(--data "$data" --template "$TEMPLATE" --max-tokens "$MAX_TOKENS")
SAMPLE=(--num-samples "$NUM_SAMPLES" --sampled-questions "$SAMPLED")

mkdir -p "$out"
run() { echo "+ $*"; local start=$SECONDS; "$@"; echo "seconds: $((SECONDS - start))"; }

[ -e "$out/forget10.jsonl" ] || grep '"task_id": "1"' "$data/forget10.json" > "$out/forget10.jsonl"
if [ ! -e "$out/retain_of10.jsonl" ]; then
  { cat "$data/retain10.json"; echo; grep -v '"task_id": "1"' "$data/forget10.json"; } > "$out/retain_of10.jsonl"
fi
[ -e "$out/full.jsonl" ] || cat "$out/forget10.jsonl" "$out/retain_of10.jsonl" > "$out/full.jsonl"

[ -d "$out/original" ] || run leakbound finetune --data "$out/full.jsonl" --from-scratch mini "${LEARN[@]}" \
  --save-every 500 --resume --out "$out/original"
[ -d "$out/retrained" ] || run leakbound finetune --data "$out/retain_of10.jsonl" --from-scratch mini \
  --tokenizer "$out/original" "${LEARN[@]}" --save-every 500 --resume --out "$out/retrained"

for name in "${ORDER[@]}"; do
  # shellcheck disable=SC2086  # the method's options are words
  [ -d "$out/$name" ] || run leakbound unlearn --model "$out/original" --forget "$out/forget10.jsonl" \
    --retain "$out/retain_of10.jsonl" ${METHODS[$name]} "${UNLEARN[@]}" --out "$out/$name"
done

run leakbound benchmark tofu --split forget10 --model "$out/retrained" "${BENCHMARK[@]}" "${SAMPLE[@]}" \
  --out "$out/run-retrained"
for name in original "${ORDER[@]}"; do
  run leakbound benchmark tofu --split forget10 --model "$out/$name" --reference "$out/run-retrained" \
    "${BENCHMARK[@]}" "${SAMPLE[@]}" --out "$out/run-$name"
done

run leakbound benchmark tofu --split forget01 --continual --num-tasks "$TASKS" --model "$out/original" \
  "${BENCHMARK[@]}" --num-samples "$NUM_SAMPLES" --sampled-questions "$((SAMPLED / 2))" "${CONTINUAL[@]}" --out "$out/run-continual"

runs=(); for name in original retrained "${ORDER[@]}"; do runs+=("$out/run-$name"); done
run leakbound benchmark-table "${runs[@]}" --out "$out/table.md"
cat "$out/table.md"
