"""What decides about KV retention: functions of values, no clock, no vLLM.

The plugin, Halo's queue and the simulator share them.
"""
