"""How nodes reach each other: framed messages (``wire``) over streams (``tcp``)."""
