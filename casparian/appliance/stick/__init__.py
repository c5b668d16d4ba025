"""Sticks: what is carried to a disconnected machine, and how it is verified, installed and taken back."""
