"""Computing on a Dask cluster: which one, how it is secured, which workers may take part, and what each gets to do.

What a task does belongs to the rooms above. Nothing here is imported without ``--cluster`` or ``work.engine: dask``,
and distributed comes with the extra ``cluster``.
"""
