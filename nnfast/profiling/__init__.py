"""Where a step spends its time: `Model.profile`.

measuring   runs the step with clocks around each op
roofline    what this machine can do
report      the result, as a table, a dictionary or a picture
"""
