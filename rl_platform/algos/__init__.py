"""Learning algorithms: each one file, readable in one sitting."""
