"""What a sweep tries next: each module with a `Config` is a choice of `sweeper=`."""
