"""Bring items from elsewhere into a GeoCatalog: where they come from, what is made of them, and how they are sent."""
