"""The only road by which a front end changes anything: requests to the sentinel."""
