"""Which step of which session is made when, and how many sessions there is time for."""
