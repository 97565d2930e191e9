"""Whole networks on the array: their layers as matrices of integers, run in passes."""
