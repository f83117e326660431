#!/usr/bin/env bash
# Everything that CI checks, step by step; prints how long each step took. Starts the local stack for the system tests
# and stops it afterwards, unless it was running before.
set -euo pipefail
cd "$(dirname "$0")/../.."

stack() { "${PYTHON:-python3}" infra/local/stack.py "$@"; }

times=("")
step() {
    local begin=$SECONDS
    name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@"
    times+=("$(printf '%5d s  %s' $((SECONDS - begin)) "$name")")
}

finish() {
    local code=$?
    if [[ $code -ne 0 ]] && stack status >/dev/null 2>&1; then
        stack logs --once >.local/functions.log || true
        echo "The functions' logs are in .local/functions.log, the emulator's in .local/ministack.log"
    fi
    [[ -n ${started_here:-} ]] && stack down
    printf '%s\n' "${times[@]}"
    [[ $code -eq 0 ]] && echo "All green." || echo "Failed: $name"
    exit $code
}
trap finish EXIT

templates() {
    .local/tools/sam/bin/cfn-lint template.yaml infra/api.yaml infra/alarms.yaml
    AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 .local/tools/sam/bin/sam validate --lint
    .local/tools/sam/bin/python tests/template_suite.py
    local file
    for file in infra/*.json events/*.json; do
        "${PYTHON:-python3}" -m json.tool "$file" >/dev/null || { echo "not valid JSON: $file"; return 1; }
    done
}

deny() {
    local root=.local/tools/cargo version=0.20.2
    if [[ $("$root/bin/cargo-deny" --version 2>/dev/null) != "cargo-deny $version" ]]; then
        # Its release profile takes many minutes; speed does not matter for a tool that runs for a second.
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
            CARGO_PROFILE_RELEASE_DEBUG=0 cargo install "cargo-deny@$version" --locked --root "$root"
    fi
    # `check advisories` needs the advisory database from the network, so it is for a scheduled job, not for every test.
    "$root/bin/cargo-deny" check bans licenses sources
}

system_tests() (
    set -a
    . .local/stack.env
    cargo test --workspace --locked --test system
)

step "tools" stack tools
step "format" cargo fmt --check
step "format of the benchmark" cargo fmt --check --manifest-path tests/bench/Cargo.toml
step "templates" templates
step "second interpreter" .local/tools/second-interpreter/bin/python tests/second_interpreter.py
step "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
# Without this, a change of the product would leave the benchmark behind. It is only checked, because linking it takes minutes.
step "lints of the benchmark" cargo clippy --locked --manifest-path tests/bench/Cargo.toml --target-dir target/bench -- -D warnings
step "dependencies" deny
step "unit and conformance tests" cargo test --workspace --locked
# As it ships, for the architecture that ships. Minutes, because the profile `release` shares nothing with that of the tests.
step "release artefact" "${PYTHON:-python3}" infra/deploy.py artefact get-product
stack status >/dev/null 2>&1 || started_here=yes
step "local stack" stack up
step "system tests" system_tests
step "deployment" .local/tools/sam/bin/python tests/deploy_suite.py
step "failure matrix" stack faults cargo test --workspace --locked --test system -- --ignored failure_matrix
