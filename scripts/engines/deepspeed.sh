# Sourced by scripts/setup-engine and scripts/lock-engine.

# What DeepSpeed leaves open is as in the main environment.
lock_options=(--constraint requirements-dev.lock)

before_install() {
    # DeepSpeed compiles an operation when it is first used; nothing while it is installed.
    export DS_BUILD_OPS=0
}
