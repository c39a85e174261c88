"""Sides of a comparison that run in an interpreter of their own, each as a script."""
