"""Readers of model formats: each turns a file into a Relax module with named inputs and outputs."""
