"""The kinds of task, a runner each: a model and a benchmark in, a typed result out."""
