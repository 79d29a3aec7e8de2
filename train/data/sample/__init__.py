"""Embedded sample: small parquet files in SYNTH's schema, and the generator that wrote them."""
