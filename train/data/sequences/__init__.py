"""Training sequences: documents, packing, prepared and streamed."""
