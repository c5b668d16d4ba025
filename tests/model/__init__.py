"""Models that stand in for real parts where a test needs thousands of histories; each is compared with what it stands for."""
