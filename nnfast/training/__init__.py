"""Behind `Model.fit`, `evaluate` and `predict`.

fit             checks everything, then runs jobs until the work is done
run             where a training stands, and its next job; `accumulation` and `stream_run` are other kinds of run
resuming        what a file says of a training, and going on from there
batches         rows on their way into a job; `staged` for those in files, `streams` for those that come one by one
validating      validation in the midst of a job
orders          the row orders of epochs
distributed     the same on the ranks of an MPI job; `ranks` is how they talk, `ranks_device` the same between GPUs,
                `ranks_run` their run, `ranks_rows` and `shares` which rows each of them has
tally           from the sums of batches to the values of epochs
stepping        single steps on rows that the caller brings
interrupts      Ctrl-C between two jobs
class_weights   weights of classes as weights of rows
"""
