"""Rows in SYNTH's schema to memory-mapped blocks of tokens: sources, synth, statistics, packing, prepare."""
