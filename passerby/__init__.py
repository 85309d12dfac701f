"""passerby: person re-identification from a folder of crops to a trained, exactly scored, pictured model."""

__version__ = "0.1.0"
