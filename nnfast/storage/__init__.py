"""Behind `nnfast.checkpoint`: files that hold models, and reading those that strangers may have written.

files           paths, and replacing a file in one step
file_format     the safetensors layout, strictly
npz             NumPy's archives, without trusting them
values          nested Python values as JSON and arrays
records         what was unpacked of a training, checked entry by entry
configuration   layers, losses, optimizers and the like as data
stored          what a file of `Model.save` holds
restoring       putting that into a model, all or nothing
inspection      what is inside, for people
"""
