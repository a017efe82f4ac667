# Sourced by scripts/setup-engine and scripts/lock-engine.

# The tests' tools are as in the main environment; what vLLM needs is for vLLM to say.
tools=$(mktemp)
trap 'rm -f "$tools"' EXIT
grep -E '^(hypothesis|psutil|pytest)' requirements-dev.lock >"$tools"
lock_options=(--constraint "$tools")

after_install() {
    # They are optional, and their builds do not go with a CPU build of torch: vLLM fails on them.
    "$1/bin/python" -m pip uninstall --disable-pip-version-check --quiet --yes \
        torchvision torchaudio torchcodec
}
