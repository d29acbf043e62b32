"""The program that keeps one container alive: it starts it, watches it, serves its commands, and records its end.

It is started with an interpreter of its own for each container, so it imports little: every module that it needs costs
each start, and nothing here imports from outside this package.
"""
