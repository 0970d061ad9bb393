"""
What operators are shown of the store: the objects that the command line prints as JSON, and the console as pages.

Without ``reveal`` nothing personal is in them. Who asks with it writes an audit row first.
"""
