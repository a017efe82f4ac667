# Sourced by scripts/setup-engine and scripts/lock-engine.

# No engine, but what runs them all elsewhere: with all that they need in the main environment.
lock_options=(
    --constraint requirements-dev.lock
    --extra pytorch --extra openvino --extra onnx --extra search --extra postgres
)
option=cluster.python
