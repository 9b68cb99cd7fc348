#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make test`: the labs start while lint runs; then the lab's tests in a process for each lab, and all others beside them.
# SKIP_LAB=1 leaves out what needs a lab, and says what that is. The labs are removed at the end, also after a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."

began=$SECONDS
skip=${SKIP_LAB:-0}
lab=
own=(tests/e2e/test_control_mode.py tests/e2e/test_timekeepers.py) # make hosts of their own
# What runs in the second lab: about half of the time. The first one's is all the rest.
second=(tests/e2e/faults tests/e2e/test_molecule.py tests/e2e/test_{together,backup_killed,taken_over_server,credentials_of_a_run,vault_troubles}.py)
declare -A running=()

labs() { # labs up|down: both
    for name in "" second; do
        SOPLAB=$name python3 tests/lab/lab.py "$@"
    done
}

finish() {
    code=$?
    trap - EXIT
    [ -z "$lab" ] || wait "$lab" 2>/dev/null || true
    for each in "${running[@]}"; do kill "$each" 2>/dev/null || true; done
    if [ -z "${KEEP_LAB:-}" ]; then
        labs down >.cache/lab-down.log 2>&1 || cat .cache/lab-down.log >&2
    fi
    exit "$code"
}

mkdir -p .cache
make --no-print-directory deps venv pyc
if [ "$skip" = 0 ]; then
    .venv/bin/python -m tests.tools.lab_ready || {
        echo "test: the end-to-end tests and molecule cannot run here (above); SKIP_LAB=1 make test runs the rest" >&2
        exit 3
    }
    trap finish EXIT
    labs up --install >.cache/lab-up.log 2>&1 &
    lab=$!
fi

make --no-print-directory lint
echo "test: lint is clean after $((SECONDS - began)) s"

beside() { # beside NAME LAB PYTEST-ARGUMENTS: run pytest in the background
    local name=$1 where=$2
    shift 2
    # shellcheck disable=SC2086  # PYTEST holds several words
    SOPLAB=$where .venv/bin/pytest -p no:cacheprovider --durations 10 -m lab "$@" ${PYTEST:-} >".cache/$name.log" 2>&1 &
    running[$name]=$!
}

if [ "$skip" = 0 ]; then
    wait "$lab" || {
        cat .cache/lab-up.log >&2
        echo "test: the lab did not start (above)" >&2
        exit 1
    }
    lab=
    grep ' up after ' .cache/lab-up.log
    # The hosts of a lab are one thing, so its tests run in one process, in order.
    beside lab-tests "" tests "${own[@]/#/--ignore=}" --ignore tests/bench "${second[@]/#/--ignore=}"
    beside second-lab-tests second "${second[@]}"
    beside own-lab-tests "" "${own[@]}"
else
    echo "test: SKIP_LAB is set; skipped here is what needs real hosts:"
    .venv/bin/pytest --collect-only -q -m lab tests 2>/dev/null | sed -n 's/^/  /; /::/p'
fi

code=0
# What does something to a service while it is down comes first; these fill what is left of the processors.
# shellcheck disable=SC2086  # PYTEST holds several words
nice -n 5 .venv/bin/pytest -n 3 --dist worksteal --durations 10 -m "not lab" tests --ignore tests/bench ${PYTEST:-} || code=$?
for name in "${!running[@]}"; do
    wait "${running[$name]}" || code=$?
    unset "running[$name]"
    echo "test: $name:"
    cat ".cache/$name.log"
done
echo "test: finished after $((SECONDS - began)) s, exit $code"
exit "$code"
