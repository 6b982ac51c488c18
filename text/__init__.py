"""Text: files, tokens, vocabularies, batches. No TensorFlow except in `graph_text.py`."""
