"""Screens to try PETRI on."""
