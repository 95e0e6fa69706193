"""Schedules: the same stories in thousands of orders, each to be had again by its number."""
