#!/usr/bin/env bash
# Real data: learn 200 TOFU questions by heart, unlearn the 40 of forget01, and audit what is left, with 1,024 draws each.
# Usage: benchmarks/tofu.sh [FOLDER]   (data: $LEAKBOUND_DATA or ../shared/data; results: docs/results/tofu.md)
set -euo pipefail
cd "$(dirname "$0")/.."
data="${LEAKBOUND_DATA:-../shared/data}/tofu"
out="${1:-runs/tofu}"
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
mkdir -p "$out"
grep '"task_id": "1"' "$data/forget01.json" > "$out/forget.jsonl"
head -160 "$data/retain90.json" > "$out/retain.jsonl"
cat "$out/forget.jsonl" "$out/retain.jsonl" > "$out/full.jsonl"
learn=(--epochs 60 --batch-size 8 --learning-rate 2e-3 --schedule cosine --warmup 0.1 --template qa)
forget=(--forget "$out/forget.jsonl" --retain "$out/retain.jsonl" --template qa --like ours --batch-size 8 --schedule constant)
timed() { local start=$SECONDS; "$@"; echo "seconds: $((SECONDS - start)) for: ${*:0:3} ... --out ${*: -1}"; }

timed leakbound finetune --data "$out/full.jsonl" --from-scratch tiny "${learn[@]}" --out "$out/original"
timed leakbound finetune --data "$out/retain.jsonl" --from-scratch tiny --tokenizer "$out/original" "${learn[@]}" \
  --out "$out/retrained"
timed leakbound unlearn --model "$out/original" --method grad_diff "${forget[@]}" --epochs 6 --learning-rate 2e-4 \
  --forget-weight 0.3 --out "$out/grad_diff"
timed leakbound unlearn --model "$out/original" --method npo_gd "${forget[@]}" --epochs 6 --learning-rate 2e-4 \
  --forget-weight 0.1 --beta 1 --out "$out/npo"
guess=()
for model in retrained original grad_diff npo; do
  timed leakbound audit "$out/$model" --prompts "$out/forget.jsonl" --template qa --num-samples 1024 --max-tokens 100 \
    "${guess[@]}" --out "$out/run-$model"
  guess=(--guess "$out/run-retrained")
done
