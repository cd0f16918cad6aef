"""Apache Airflow provider for Microsoft Planetary Computer Pro GeoCatalog."""

__version__ = "0.1.0"
