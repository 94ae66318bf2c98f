"""Tests on a GPU: `make test-gpu`. Without CUDA they are skipped."""
