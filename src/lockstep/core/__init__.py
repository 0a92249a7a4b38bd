"""Rules of Lockstep, pure: no database, no network, no disk, no clock, no environment. A test holds it to that."""
