"""Behind `nnfast.plots`: drawing with matplotlib, without pyplot and without touching its settings.

drawing     colours, markers, the page, a plane tinted by a model's answers
figure      a Figure that a notebook shows
training    histories
answers     decision regions, fitted curves, confusion matrices
profile     where a step spends its time
"""
