"""One module for each verb. Each verb is a function that returns a frozen value; the command line prints it."""
