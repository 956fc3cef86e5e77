"""Who is calling over HTTP, and what they may do.

`roles` has the rights of each role, `table` the right that each route needs, `identify` finds out who is calling, and
`gatekeeper` stands before every route.
"""
