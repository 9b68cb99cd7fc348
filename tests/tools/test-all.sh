#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make test`: the lab starts while lint runs; then the lab's tests in one process and all others beside them.
# SKIP_LAB=1 leaves out what needs the lab, and says what that is. The lab is removed at the end, also after a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."

began=$SECONDS
skip=${SKIP_LAB:-0}
lab=
log=.cache/lab-up.log
lablog=.cache/lab-tests.log
labtests=
ownlog=.cache/lab-own-tests.log
owntests=
own=tests/e2e/test_control_mode.py # makes hosts of its own

finish() {
    code=$?
    trap - EXIT
    [ -z "$lab" ] || wait "$lab" 2>/dev/null || true
    [ -z "$labtests" ] || kill "$labtests" 2>/dev/null || true
    [ -z "$owntests" ] || kill "$owntests" 2>/dev/null || true
    if [ "$skip" = 0 ] && [ -z "${KEEP_LAB:-}" ] && [ -x .venv/bin/python ]; then
        .venv/bin/python tests/lab/lab.py down >.cache/lab-down.log 2>&1 || cat .cache/lab-down.log >&2
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
    make --no-print-directory lab >"$log" 2>&1 &
    lab=$!
fi

make --no-print-directory lint
echo "test: lint is clean after $((SECONDS - began)) s"

if [ "$skip" = 0 ]; then
    wait "$lab" || {
        cat "$log" >&2
        echo "test: the lab did not start (above)" >&2
        exit 1
    }
    lab=
    tail -n 1 "$log"
    # The lab's hosts are one thing, so its tests run in one process, in order; everything else runs beside them.
    # shellcheck disable=SC2086  # PYTEST holds several words
    .venv/bin/pytest --durations 10 -m lab tests --ignore "$own" ${PYTEST:-} >"$lablog" 2>&1 &
    labtests=$!
    # shellcheck disable=SC2086
    .venv/bin/pytest -p no:cacheprovider --durations 3 -m lab "$own" ${PYTEST:-} >"$ownlog" 2>&1 &
    owntests=$!
else
    echo "test: SKIP_LAB is set; skipped here is what needs real hosts:"
    .venv/bin/pytest --collect-only -q -m lab tests 2>/dev/null | sed -n 's/^/  /; /::/p'
fi

code=0
# shellcheck disable=SC2086  # PYTEST holds several words
.venv/bin/pytest -n 2 --durations 10 -m "not lab" tests --ignore tests/bench ${PYTEST:-} || code=$?
if [ -n "$labtests" ]; then
    wait "$labtests" || code=$?
    labtests=
    echo "test: in the lab:"
    cat "$lablog"
    wait "$owntests" || code=$?
    owntests=
    echo "test: in control mode, on hosts of its own:"
    cat "$ownlog"
fi
echo "test: finished after $((SECONDS - began)) s, exit $code"
exit "$code"
