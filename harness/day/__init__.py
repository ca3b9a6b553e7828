"""The scripted day: what operators do to a cluster in a year, done to one cluster in minutes, under constant load.

``script`` says what happens, ``run`` carries it out, and the verdict is that of every run of the harness: the chat
checker on everything that every client was told.
"""
