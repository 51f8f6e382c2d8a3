"""Answers to the exercises, right and wrong, by notebook: RIGHT and WRONG of answers_NN.py.

RIGHT: key → further right answers beside the stored solution.
WRONG: key → (answer, a piece of the message that it must lead to), three or more.
"""
