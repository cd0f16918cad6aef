"""Run the tests on several Airflow versions, each in a virtual environment of its own."""
