#!/usr/bin/env bash
# Asks a server with curl alone.
# usage: examples/requests.sh [URL [METRICS_URL]]
set -euo pipefail
url=${1:-http://127.0.0.1:8000}
metrics_url=${2:-http://127.0.0.1:9090/metrics}

get() { curl --silent --show-error --fail-with-body "$@"; }
post() { get --header 'Content-Type: application/json' --no-buffer "$@"; }

echo "--- is it healthy?"
get "$url/health"
echo
echo "--- which models are there?"
get "$url/v1/models"
echo
echo "--- an answer"
post "$url/v1/chat/completions" --data '{
  "model": "smollm2-135m", "max_tokens": 24, "temperature": 0,
  "messages": [{"role": "user", "content": "What is machine learning?"}]}'
echo
echo "--- a stream"
post "$url/v1/chat/completions" --data '{
  "model": "smollm2-135m", "max_tokens": 24, "temperature": 0, "stream": true,
  "messages": [{"role": "user", "content": "Name three colours."}]}'
echo "--- a workflow, chosen by the server"
post "$url/api/query" --data '{"query": "What is machine learning?"}'
echo
echo "--- what was measured"
get "$metrics_url" | grep '^inference_requests_total'
