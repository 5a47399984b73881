"""The laboratory: networks that train by the lines of :mod:`bnlib.norms`; the only part that imports torch."""
