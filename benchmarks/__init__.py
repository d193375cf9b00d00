"""Measurements side by side with peers; results/ holds what was measured."""
