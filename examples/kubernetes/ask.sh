#!/usr/bin/env bash
# Asks a server that wants a key, as the last steps of the walk-through do.
# usage: KEY=... examples/kubernetes/ask.sh [URL]
set -euo pipefail
url=${1:-http://127.0.0.1:8000}
: "${KEY:?set the variable KEY to a key of the server}"

get() { curl --silent --show-error --fail-with-body --header "Authorization: Bearer $KEY" "$@"; }

echo "--- ready?"
get "$url/ready"
echo
echo "--- who runs the model?"
get "$url/api/models"
echo
echo "--- an answer"
get "$url/v1/chat/completions" --header 'Content-Type: application/json' --data '{
  "model": "smollm2-135m", "max_tokens": 24, "temperature": 0,
  "messages": [{"role": "user", "content": "What is machine learning?"}]}'
echo
echo "--- a live option, changed in this pod and told by it"
get "$url/admin/config" --request PATCH --header 'Content-Type: application/json' \
    --data '{"optimization.batcher.max_batch_size": 16}'
echo
