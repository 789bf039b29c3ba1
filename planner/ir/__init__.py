"""The plan: a frozen DAG of stages, a template that N rows of inputs share."""
