#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make test-faults`: the whole fault matrix, and the table of what came of it. Four labs with two processes each, whose
# engines have no host in common: most of a cell is waiting, for a switch to fire or a host to come back, so eight fit on two
# cores (and in 12 GB). test-faults.sh PART runs a part alone, in the ordinary lab: an engine, a boundary, a fault, or any
# words for pytest's -k; its outcomes are added to those that are known already.
set -euo pipefail
cd "$(dirname "$0")/../.."

part=${1:-}
tests=tests/e2e/faults/test_faults.py
began=$SECONDS
declare -A running=()
export FAULTS_MAX_DOWNTIME=${FAULTS_MAX_DOWNTIME:-60}
early="staging or staged or armed or stopped or quiesced"
late="swapped or committed or started or disarmed or reverting"
# LAB=-k of its first process|-k of its second
shares=(
    "faults-1=postgresql and ($early)|sqlite and ($early)"
    "faults-2=mariadb and ($early)|files and ($early)"
    "faults-3=postgresql and ($late)|sqlite and ($late)"
    "faults-4=mariadb and ($late)|files and ($late)"
)

finish() {
    for each in "${running[@]}"; do kill "$each" 2>/dev/null || true; done
    for share in "${shares[@]}"; do SOPLAB=${share%%=*} .venv/bin/python tests/lab/lab.py down >/dev/null || true; done
}

if [ -n "$part" ]; then
    make --no-print-directory lab
    exec .venv/bin/pytest -m faults "$tests" -k "$part"
fi

# A new table: what an earlier run found is not this one's.
rm -f .cache/faults.jsonl
trap finish EXIT
for share in "${shares[@]}"; do
    SOPLAB=${share%%=*} .venv/bin/python tests/lab/lab.py up --install
done
for share in "${shares[@]}"; do
    export SOPLAB=${share%%=*}
    words=${share#*=}
    for part in "${words%|*}" "${words#*|}"; do
        name=$SOPLAB-${part%% *}
        .venv/bin/pytest -p no:cacheprovider -q -m faults "$tests" -k "$part" >".cache/$name.log" 2>&1 &
        running[$name]=$!
    done
done
code=0
for each in "${!running[@]}"; do
    wait "${running[$each]}" || code=$?
    unset "running[$each]"
done
.venv/bin/python -m tests.e2e.faults.outcomes --whole || code=$?
echo "test-faults: finished after $(((SECONDS - began) / 60)) min, exit $code; what failed in full: .cache/faults-*.log"
exit "$code"
