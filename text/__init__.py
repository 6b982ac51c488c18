"""Text: files, tokens, vocabularies, batches. No TensorFlow but in `graph_text.py`."""
