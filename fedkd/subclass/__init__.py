"""Pseudo-subclasses: the structure of a teacher's embeddings, made into finer targets."""
