#!/bin/sh
# Builds engine.wasm, here or in the folder named. Needs clang and wasm-ld (Debian: clang, lld).
set -e
cd "$(dirname "$0")"
clang --target=wasm32 -mcpu=mvp -msimd128 -mbulk-memory -O3 -ffp-contract=off -nostdlib \
    -ffreestanding -fno-builtin-memset -Wall -Wextra -Werror \
    -Wl,--no-entry,--strip-all,--stack-first,-z,stack-size=65536 \
    -o "${1:-.}/engine.wasm" functions.c matrix.c sampling.c network.c generate.c
