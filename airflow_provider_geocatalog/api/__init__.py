"""The GeoCatalog service described in Python: no Airflow, no network, no clock."""
