"""Measuring on other machines: a tracker knows the devices, servers measure, a client shares work out.

TVM's own RPC asks nobody who they are, and runs what it is sent. Everything here goes through authenticated
and encrypted channels instead (``channel.py``); docs/tuning-over-rpc.md says why it is built as it is.
"""
