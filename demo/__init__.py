"""The demonstration: a real Airflow, the emulator and a small real catalog, from one command (``python -m demo``)."""
