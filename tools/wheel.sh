#!/usr/bin/env bash
# Builds the wheel, installs it with its plain dependencies (no torch) in a clean environment, and uses it from there.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf dist build/wheel-venv
.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
ls -l dist

.venv/bin/python -m venv build/wheel-venv
build/wheel-venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
build/wheel-venv/bin/python -I tools/wheel_smoke.py
