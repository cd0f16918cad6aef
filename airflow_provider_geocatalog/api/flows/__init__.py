"""
Procedures on the service, each written once as a generator and driven blocking or asynchronously by the client.

A flow yields a :class:`~airflow_provider_geocatalog.api.http.Request` and is sent the response, yields a ``Pause`` to
wait and ``Now`` for the time. It performs no I/O.
"""
