"""What a machine and its services do at this moment, read again and again, for `edgeward top`.

These files also run on a device with nothing but Python 3.9: they import the standard library, each other and
measure/sysfs.py and measure/conditions.py, which keep to the same.
"""
