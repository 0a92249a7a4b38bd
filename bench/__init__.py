"""`make bench`: Lockstep beside real peers and a floor, on one machine in one run. Never part of the tests."""
