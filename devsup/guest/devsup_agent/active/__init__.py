"""What is active: requests, streams, WebSockets, and the work that they leave behind. `work` has the record they share."""
