"""`regrain demo`: the job within a budget (`budgeted`), or everything lossless beside other tools (`lossless`)."""
