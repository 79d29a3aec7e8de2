"""`report.html` in the run folder: all that is known of a run on one page, live while it trains, without a network."""
