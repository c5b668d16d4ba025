"""Proofs on real evidence; most of them need the corpus."""
