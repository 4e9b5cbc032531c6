"""One module per server, or family of servers: where its app is wrapped, its gate, its stop."""
