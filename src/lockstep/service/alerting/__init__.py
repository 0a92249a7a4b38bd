"""Alerts: made of errors and events, sent to whoever is on call, once per incident."""
