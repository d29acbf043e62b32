"""Makes the reference pages of the code that they describe: ``python -m docs.generate`` writes them.

The pages are committed, so that they are read where the source is read, and so that a change of what users see shows in
the difference. A test holds them equal to what would be written.
"""
