"""deferrable and its peers side by side: one run, one table. ``python -m benchmarks.peers --help``

The modules: `catalogue` names the libraries, and `environments` has their interpreters. `adapters`
speak to one library each, behind `adapter`; `produce` and `work` run them in that library's own
interpreter. `programs` starts those, `measuring` reads what they cost, `cells` and `growth` are the
measurements, `results` keeps the figures; `table`, `targets` and `chart` show them.

The one rule: a run that loses or doubles a job has no speed.
"""
