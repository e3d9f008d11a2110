"""Gymnasium's MuJoCo tasks, version 5: its models, observations, rewards, ends and resets, in batches.

Terms are named after the keys of Gymnasium's `info`; the constructor's options are keys of the YAML.
`tests/tasks/test_gymnasium_parity.py` holds them to the originals, digit by digit.
"""
