"""The reference outputs, what makes and compares them, and an independent model in NumPy."""
