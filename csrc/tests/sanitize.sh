#!/usr/bin/env bash
# Builds and runs the core's tests under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer,
# for the instruction sets of this machine. First each build must stop a planted fault, or its silence means nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_init_order=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1

generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi

must_stop() { # NAME FAULT WORDS: the fault ends the program with the sanitizer's words
  local output
  if output=$("build/$1/gattn_driver" --plant "$2" 2>&1) || ! grep -q "$3" <<<"$output"; then
    printf '%s\nerror: the %s build did not stop the planted fault "%s"\n' "$output" "$1" "$2" >&2
    exit 1
  fi
}

build() { # NAME SANITIZERS [OPTION...]
  cmake -S . -B "build/$1" "${generator[@]}" -DGATTN_PYTHON=OFF -DGATTN_DRIVER=ON -DGATTN_WERROR="${GATTN_WERROR:-OFF}" \
    -DGATTN_SANITIZE="$2" "${@:3}" >/dev/null
  cmake --build "build/$1" --parallel "$(nproc)"
}

# The tests hardly use more than one core: they run while the next build does.
running=()
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
run() { # NAME THREADS: in the background
  "build/$1/gattn_driver" "$2" &
  running+=($!)
}

build asan address,undefined,float-cast-overflow
must_stop asan read 'AddressSanitizer: heap-buffer-overflow'
must_stop asan overflow 'signed integer overflow'
for isa in $(build/asan/gattn_driver --isas); do
  GATTN_CPU_ISA=$isa run asan 3 # each case is run on one thread too, and compared
done

# One instruction set: they share every line that meets another thread.
build tsan thread -DGATTN_VECTOR_ISAS=OFF
must_stop tsan race 'ThreadSanitizer: data race'
run tsan 4

for process in "${running[@]}"; do wait "$process"; done
