"""The Space: try in a browser what a vision model knows about where things are. ``sp-hf demo`` runs it.

What the tabs compute (:mod:`.jigsaw`, :mod:`.where`, :mod:`.patches`) knows nothing of Gradio; :mod:`.page` lays it
out.
"""
