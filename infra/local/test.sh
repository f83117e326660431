#!/usr/bin/env bash
# Everything that CI checks, step by step; prints how long each step took. What needs a running service gets a stack of its
# own (LOCAL_STACK, see stack.py): it is started here, ends with this script however that ends, and shares nothing that runs
# with the developer's. Steps that wait more than they compute run beside others.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LOCAL_STACK=test
state=.local/test

mkdir -p $state
export ANSWERS="$PWD/$state/answers.jsonl" # what the system tests were answered
exec 9>$state.lock
flock --nonblock 9 || { echo "error: \`make test\` is running in this folder already"; exit 1; }

stack() { "${PYTHON:-python3}" infra/local/stack.py "$@"; }

# Every step is a job with a process group of its own, so that whatever it has started ends with it.
set -m
declare -A jobs logs

begin() {
    local begin=$SECONDS
    "${@:2}"
    printf '%5d s  %s\n' $((SECONDS - begin)) "$1" >>$state/times
}

step() {
    name=$1
    printf '\n== %s\n' "$name"
    begin "$@" </dev/null &
    wait $!
}

# Starts a step beside those that follow, with less of the processor than they get. What it printed is shown by `join`.
beside() {
    logs[$1]=$state/${1// /-}.log
    begin "$@" </dev/null >"${logs[$1]}" 2>&1 &
    jobs[$1]=$!
    renice -n 10 -g $! >/dev/null 2>&1 || true # it may have less already
}

join() {
    name=$1
    local code=0
    wait "${jobs[$name]}" || code=$?
    printf '\n== %s\n' "$name"
    cat "${logs[$name]}"
    return $code
}

finish() {
    local code=$?
    trap '' INT TERM HUP
    local job
    for job in $(jobs -p); do kill -TERM -- "-$job" 2>/dev/null || true; done
    wait
    if [[ $code -ne 0 ]] && stack status >/dev/null 2>&1; then
        stack logs --once >$state/functions.log || true
        echo "The functions' logs are in $state/functions.log, the emulator's in $state/ministack.log"
    fi
    stack down
    cat $state/times
    [[ $code -eq 0 ]] && echo "All green." || echo "Failed: $name"
    exit $code
}
name="start"
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

templates() {
    .local/tools/sam/bin/cfn-lint template.yaml infra/api.yaml infra/alarms.yaml clients/consumer/template.yaml
    AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 .local/tools/sam/bin/sam validate --lint
    .local/tools/sam/bin/python tests/template_suite.py
    .local/tools/sam/bin/python tests/alarms_suite.py
    .local/tools/sam/bin/python tests/prometheus_suite.py
    .local/tools/sam/bin/python tests/provider_contract_suite.py
    .local/tools/sam/bin/python tests/contract_suite.py
    .local/tools/sam/bin/python tests/replay_suite.py
    .local/tools/sam/bin/python tests/rebuild_suite.py
    .local/tools/sam/bin/python tests/release_suite.py
    .local/tools/sam/bin/python tests/docs_suite.py Pages Spoiled
    .local/tools/sam/bin/python tests/restore_suite.py Files ByAws Doubted Page
    .local/tools/zizmor/bin/zizmor --offline --no-progress --strict-collection --min-severity=medium .github/workflows
    .local/tools/sam/bin/python tests/workflows_suite.py
    .local/tools/emulator/bin/python tests/failing_suite.py
    local file
    for file in infra/seed.json infra/cost/*.json infra/prometheus/grafana/dashboards/*.json events/*.json; do
        "${PYTHON:-python3}" -m json.tool "$file" >/dev/null || { echo "not valid JSON: $file"; return 1; }
    done
}

addresses() { .local/tools/sam/bin/python tests/address_suite.py; }

# `check advisories` needs the advisory database from the network, so it is for a scheduled job, not for every test.
deny() { .local/tools/cargo-deny/bin/cargo-deny check bans licenses sources; }

build() {
    stack build
    cargo test --workspace --locked --no-run --test system
}

# As it ships, for the architecture that ships. Minutes, because the profile `release` shares nothing with that of the tests.
# Where rustup cannot have the target, the same is done for this machine's architecture, and said.
artefact() {
    local architecture=arm64
    rustup target add aarch64-unknown-linux-gnu || { architecture=x86_64; echo "No target for arm64 to be had here: built for x86_64"; }
    "${PYTHON:-python3}" infra/deploy.py artefact get-product --architecture $architecture
}

# A name that no test has any more would pass.
are_there() { cargo test --workspace --locked --test system -- --list "$@" | grep ': test$' >/dev/null || { echo "no system test is called so: $*"; return 1; }; }

# They wait more than they compute, so there are more of them at once than processors.
system_tests() (
    are_there "$@"
    set -a
    . $state/stack.env
    RUST_TEST_THREADS=4 cargo test --workspace --locked --test system -- "$@"
)

# The contract in another language: a route that the client lacks, or a type that it cannot use, ends here.
typescript_client() { make client; }

typescript_client_on_the_stack() (
    . $state/stack.env
    CUSTOMER_TOKEN=$(stack token customer-1)
    STAFF_TOKEN=$(stack token staff-1)
    PATH="$(stack node):$PATH"
    export API_URL CUSTOMER_TOKEN STAFF_TOKEN PATH
    cd clients/typescript
    npm run test:stack
)

# A crate that links one more dependency changes the benchmark's lock file too, which nothing else writes anew.
lock_files() {
    local manifest
    for manifest in Cargo.toml tests/bench/Cargo.toml; do
        cargo metadata --locked --format-version=1 --manifest-path $manifest >/dev/null || return 1
    done
}

# In Debian's Chromium, which is installed where it is missing.
console_in_a_browser() { stack console; }

# What the service tells once it has done something, instead of what its source says that it tells.
figures() (
    export METRICS_FILE="$PWD/$state/metrics.txt"
    . $state/stack.env
    "${PYTHON:-python3}" -c 'import sys, urllib.request as url; request = url.Request(sys.argv[1] + "/metrics", headers={"authorization": f"Bearer {sys.argv[2]}"})
print(url.urlopen(request, timeout=30).read().decode(), end="")' "$API_URL" "$(stack token staff-1)" >"$METRICS_FILE"
    .local/tools/sam/bin/python tests/prometheus_suite.py
)

failure_matrix() {
    are_there --ignored failure_matrix
    stack faults cargo test --workspace --locked --test system -- --ignored failure_matrix
}

# What the contract allows and what it forbids, made up, instead of what somebody has thought of.
made_up_requests() (
    . $state/stack.env
    STAFF_TOKEN=$(stack token staff-1)
    CUSTOMER_TOKEN=$(stack token customer-1)
    export API_URL CUSTOMER_1_ID STAFF_TOKEN CUSTOMER_TOKEN
    .local/tools/schemathesis/bin/python tests/requests_suite.py
)

# Eight orders of each kind, one after the other, with nothing else at work on the stack.
cost() {
    .local/tools/emulator/bin/python tests/cost_suite.py
    stack cost --orders=8 --budget=check
}

stack down # what a run has left behind that was killed
: >$state/times
: >"$ANSWERS"

beside "tools" stack tools
step "lock files" lock_files
step "format" cargo fmt --check
step "format of the benchmark" cargo fmt --check --manifest-path tests/bench/Cargo.toml
step "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
# Without this, a change of the product would leave the benchmark behind. It is only checked, because linking it takes minutes.
step "lints of the benchmark" cargo clippy --locked --manifest-path tests/bench/Cargo.toml --target-dir target -- -D warnings
# The functions by themselves, without what the tests' dependencies would bring along: so they are built for AWS.
step "functions" cargo check --locked --bins
join "tools"
step "addresses" addresses
beside "templates" templates
beside "second interpreter" .local/tools/second-interpreter/bin/python tests/second_interpreter.py
beside "dependencies" deny
beside "typescript client" typescript_client
step "build" build
for checked in "templates" "second interpreter" "dependencies" "typescript client"; do join "$checked"; done
beside "release artefact" artefact
beside "unit and conformance tests" cargo test --workspace --locked
step "local stack" stack up
# The first on the stack, while there is little to lose.
step "restore drill" stack restore-drill
beside "rebuild under load" system_tests rebuild
step "system tests" system_tests --skip rebuild --skip traces
join "rebuild under load"
step "typescript client on the stack" typescript_client_on_the_stack
step "console in a browser" console_in_a_browser
# By itself: of an order that somebody else has placed before there was a consumer, all later events would be parked.
step "consumers" .local/tools/sam/bin/python tests/consumer_suite.py
step "commands of the pages" .local/tools/sam/bin/python tests/docs_suite.py Pasted
step "cost" cost
# While the machine is quiet: nobody waits for a collector for long, and what it does not take in time is lost.
step "traces" system_tests traces
step "figures" figures
# Each by itself: they change what all orders and all callers go by.
step "providers of one's own" system_tests --ignored providers
step "e-mails" system_tests --ignored mail
step "rate limits" system_tests --ignored limits
# What they put into the event table, no rebuild could read before they have mended it.
step "poisoned orders" system_tests --ignored --nocapture dead_letters
step "deployment" .local/tools/sam/bin/python tests/deploy_suite.py
step "drills of the runbook" .local/tools/sam/bin/python tests/drills_suite.py
step "failure matrix" failure_matrix
# The last on the stack: it leaves orders behind that are stuck.
step "made-up requests" made_up_requests
step "answers" .local/tools/sam/bin/python tests/answers_suite.py
join "release artefact"
join "unit and conformance tests"
