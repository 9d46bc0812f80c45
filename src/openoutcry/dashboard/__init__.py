"""The page: a process of its own that shows one firm in the browser, from its control socket and its journal.

`server` puts the parts together. `gate` decides what is answered at all, with `access` knowing who somebody
is. `hub` holds the one connection to the firm and gives what comes there to every open tab; `series` keeps
fifteen minutes of it. `journal_file` reads the journal in a thread of its own, for the searches in `events`,
`letters`, `overview` and `rounds`. `acts` forwards what an operator does. Nothing here runs in the firm.
"""
